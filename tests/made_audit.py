"""An audit of a run as ``audit.json`` holds it: every kind of finding, with numbers that occur only once."""

import numpy as np


def figure(value, half, smallest):
    return {"value": value, "low": value - half, "high": value + half, "smallest": smallest}


def finding(audit, value, half, smallest, original=None, floor=None, p_value=None, **details):
    original = None if original is None else figure(original, half, smallest)
    return {
        "audit": audit,
        "unlearned": figure(value, half, smallest),
        "original": original,
        "floor": floor,
        "p_value": p_value,
        "details": details,
        "not_done": None,
    }


def curve(power):
    """A ROC whose TPR is a power of its FPR."""
    fpr = np.concatenate([[0], np.geomspace(1e-3, 0.5, 40), 1 - np.geomspace(1e-3, 0.5, 40)[::-1], [1]])
    return {"fpr": fpr.tolist(), "tpr": (fpr**power).tolist()}


def change(before, after):
    return {"before": before, "after": after, "change": figure(after - before, 1.5, 2.1)}


def distance(value, low, high):
    return {"figure": figure(value, 0.1, 0.14), "floor": [low, high], "excess": figure(value - low, 0.1, 0.14)}


def relearned():
    steps = np.array([0, 1, 2, 5, 10, 20, 50, 90])
    rise = 1 - np.exp(-steps / 20)
    curves = {"unlearned": 50 + 40 * rise, "original": 99 + 0 * rise, "retrain": [48 + 5 * rise, 52 + 4 * rise]}
    excess = curves["unlearned"] - np.mean(curves["retrain"], axis=0)
    plain = {name: np.asarray(values).tolist() for name, values in curves.items()}
    sets = dict.fromkeys(("forget", "remain", "test"), plain)
    return {"steps": steps.tolist(), **sets, "excess": excess.tolist(), "band": 4.0, "at_start": 0.0, "recovered": 0.61}


def made_audit(**changes):
    """All eleven audits of a model that is caught by some, and that none of its own makes up for others."""
    rng = np.random.default_rng(0)
    quantiles = {
        name: np.sort(rng.normal(mean, 2, 101)).tolist()
        for name, mean in (("forget", 1.5), ("held_out", 1), ("original", 6), ("retrain", 1))
    }
    curves = {"unlearned": curve(0.8), "original": curve(0.2), "retrain": curve(1.02)}
    sets = {
        name: {"unlearned": change(at, at + rise), "original": change(99, 98.5), "retrain": [change(90, 90.5)] * 2}
        for name, at, rise in (("forget", 60, 20.25), ("remain", 95, 2), ("test", 82, 1))
    }
    of_set = {
        "js": distance(0.123, 0.041, 0.052),
        "agreement": distance(91.2, 93.1, 94.2),
        "margin": distance(0.317, -0.081, 0.081),
        "margin_apart": distance(1.021, 0.811, 0.822),
        "ks": distance(7.13, 3.21, 4.32),
        "auc": distance(0.531, 0.487, 0.513),
    }
    strata = {
        name: {
            "rows": 30,
            "unlearned": at,
            "original": 100.0,
            "retrain": [at - 1, at + 3],
            "difference": figure(4, 9, 12),
        }
        for name, at in (("hard", 31.25), ("random", 81.5), ("easy", 99.75))
    }
    models = {"models": [16, 16], "unlearned_to_oracle": {"mean": figure(4.4, 0.3, 0.4), "p95": figure(7.1, 0.5, 0.7)}}
    findings = [
        finding(
            "held_out", 0.571, 0.021, 0.031, 0.957, [0.491, 0.512], 0.0004, margins=quantiles, roc=curves, ks=12.34
        ),
        finding("retrain", 0.317, 0.1, 0.14, 5.01, [-0.081, 0.081], 0.061, forget=of_set, remain=of_set, test=of_set),
        finding("recalibration", 20.25, 1.5, 2.1, -0.5, [0.2, 0.6], 0.012, sets=sets, rows=1350, batches=20)
        | {"details": {"sets": sets, "rows": 1350, "batches": 20, "batch_size": 128, "augment": "none"}},
        finding("relearning", 36.125, 4.0, 5.7, 49.5, [1.1, 2.2], None, **relearned()),
        finding("rmia", 0.443, 0.022, 0.0315, 0.991, [0.488, 0.516], 0.002, roc=curves, scale=0.3, references=2),
        finding("iam", 0.503, 0.012, 0.017, 0.998, [0.483, 0.518], None, confidence=figure(0.41, 0.02, 0.03)),
        finding("canaries", 0.77, 0, 0.66, None, [0.0, 0.0], 0.03, right=[41, 22], guesses=50, canaries=200)
        | {"unlearned": {"value": 0.77, "low": 0.77, "high": None, "smallest": 0.66}},
        finding("strata", 4.625, 9, 12.75, 68.75, [-1.5, 2.5], 0.4, **strata),
        finding(
            "lira",
            0.547,
            0.008,
            0.011,
            None,
            None,
            0.0002,
            references=[15, 16],
            pooled={"auc": figure(0.547, 0.01, 0.01)},
        ),
        finding("klom", 4.4, 0.3, 0.4, None, [3.8, 3.9], None, **models),
        finding("forgetting_quality", 0.171, 0.02, 0.03, None, [0.165, 0.185], None, models=[16, 16]),
    ]
    findings[6]["details"]["scores"] = {"in": rng.normal(1, 1, 100).tolist(), "out": rng.normal(0, 1, 100).tolist()}
    verdict = {one["audit"]: None if one["p_value"] is None else one["p_value"] < 0.01 for one in findings}
    return {
        "schema_version": 1,
        "run": {
            "method": "salun",
            "dataset": "digits",
            "model": "resnet8",
            "seeds": {"train": 3, "split": 4, "unlearn": 5},
            "forget": {"kind": "random", "count": 90, "sha256": "9f" * 32},
            "request_sha256": "ab" * 32,
        },
        "level": 2,
        "models": [
            {"name": "original", "trained_on": "all training rows", "rows": 900, "seconds": 0.0, "found": True},
            {"name": "retrain 2/3", "trained_on": "remaining rows", "rows": 810, "seconds": 61.0, "found": False},
        ],
        "rows": {"forget": 90, "remain": 810, "held_out": 360},
        "findings": findings,
        "verdict": verdict,
        "notes": ["the forget rows were drawn by lot"],
        "seconds": {"trainings": 61.0, "audits": {one["audit"]: 2.5 for one in findings}, "total": 100.0},
        "provenance": {
            "commit": "3f9c2ab",
            "versions": {"jax": "0.10.2"},
            "device": "CPU, 2 cores",
            "started": "2026-11-24",
            "command": "python -m ltu_jax.audit --workdir runs/x",
        },
    } | changes
