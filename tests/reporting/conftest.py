"""A result as ``result.json`` holds it, with numbers that occur only once so that each can be looked for."""

import numpy as np
import pytest


@pytest.fixture
def result():
    return {
        "schema_version": 1,
        "method": "ltu",
        "seeds": {"train": 0, "split": 1, "unlearn": 2},
        "dataset": "digits",
        "model": "resnet8",
        "forget": {"kind": "random", "count": 30, "sha256": "9f" * 32},
        "rho": 0.3,
        "scores": {"ua": 6.67, "ra": 99.63, "ta": 93.06, "mi": 16.68, "ut_minutes": 0.5},
        "original": {"ua": 0.11, "ra": 100.0, "ta": 94.72, "mi": 0.22},
        "retrain": {"ua": 5.33, "ra": 99.91, "ta": 94.17, "mi": 13.34, "ut_minutes": 4.0},
        "retrain_spread": {"ua": 1.31, "ra": 0.07, "ta": 0.83, "mi": 2.69, "mean": 1.225},
        "gap": {"ua": 1.34, "ra": 0.28, "ta": 1.11, "mi": 3.35, "mean": 1.52},
        "original_gap": {"ua": 5.22, "ra": 0.09, "ta": 0.55, "mi": 13.12, "mean": 4.745},
        "attackers": [
            {"name": "sorted", "auc_shadow": 0.701, "auc_original": 0.713, "auc_unlearned": 0.521},
            {"name": "classwise", "auc_shadow": 0.549, "auc_original": 0.532, "auc_unlearned": 0.493},
        ],
        "warnings": ["it forgot too little; raise config.method.epochs"],
        "audits": {},
        "time": {"compile_s": 18.3, "unlearn_s": 30.0, "original_s": 37.1, "attackers_s": 90.0, "retrain_s": 240.0},
        "provenance": {"commit": "3f9c2ab", "versions": {"jax": "0.10.2"}, "device": "cpu", "started": "2026-11-24"},
    }


@pytest.fixture
def history():
    rng = np.random.default_rng(0)
    rows = []
    for step in range(1, 121):
        tune, query, forget = rng.lognormal(size=3)
        rows.append({"step": step, "loss/tune": tune, "loss/query_0": query, "norm/forget": forget})
        rows[-1] |= {"cosine": rng.uniform(-1, 1), "conflict": bool(step % 2)}
        if step % 40 == 0:
            rows[-1]["eval/ua"] = 5.0
    return rows


@pytest.fixture
def confidence():
    rng = np.random.default_rng(1)
    return {"before": rng.beta(60, 1, 30), "after": rng.beta(4, 1, 30), "Retrain": rng.beta(5, 1, 30)}


@pytest.fixture
def without_retrain(result):
    return result | dict.fromkeys(("retrain", "retrain_spread", "gap", "original_gap"))


@pytest.fixture
def with_nothing(result):
    """Every value that may be None is None, every list is empty."""
    scores = ("scores", "original", "retrain", "gap", "original_gap", "retrain_spread", "time")
    nothing = {name: dict.fromkeys(result[name]) for name in scores}
    provenance = {"commit": None, "versions": {}, "device": "cpu", "started": None}
    return result | nothing | {"attackers": [], "warnings": [], "provenance": provenance}
