"""Made-up cells of a sweep: what results.jsonl holds, without a run; and their table, read back."""

import json

import numpy as np

SEEDS = [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
RMIA = [0.51, 0.55, 0.56]
"""Of the audits of runs of these seeds."""
MEASURES = ("ua", "ra", "ta", "mi")
RETRAIN = {"ua": 10.0, "ra": 99.0, "ta": 90.0, "mi": 45.0, "ut_minutes": 4.0}


def gap(scores, retrain):
    gaps = {name: abs(scores[name] - retrain[name]) for name in MEASURES}
    return {**gaps, "mean": sum(gaps.values()) / 4}


def cell(label="FT", off=(1.0, 1.0, 1.0, 1.0), seeds=(0, 0, 0), rho=1.0, fraction=0.1, **changes):
    """A finished cell whose UA, RA, TA, MI are ``off`` from Retrain's; Retrain differs from one pair to the next."""
    train, split, unlearn = seeds
    retrain = {**RETRAIN, "ua": RETRAIN["ua"] + train, "mi": RETRAIN["mi"] + split}
    scores = {name: retrain[name] + by for name, by in zip(MEASURES, off, strict=True)} | {"ut_minutes": 0.5}
    original = {"ua": 0.0, "ra": 100.0, "ta": 92.0, "mi": 5.0}
    result = {
        "schema_version": 2,
        "method": changes.pop("method", label.lower()),
        "seeds": {"train": train, "split": split, "unlearn": unlearn},
        "dataset": "digits",
        "model": "resnet8",
        "forget": {"kind": "random", "count": round(300 * fraction), "fraction": fraction, "sha256": "9f"},
        "rho": rho,
        "scores": scores,
        "original": original,
        "retrain": retrain,
        "retrain_spread": {"ua": 3.0, "ra": 0.0, "ta": 2.0, "mi": 1.0 + train, "mean": 1.5 + train / 4},
        "gap": gap(scores, retrain),
        "original_gap": gap(original, retrain),
        "cost": {"forward_images": 4000.0, "backward_images": 2500.0, "flops": 1e12},
        "ratio": 3.0,
        "splits_sha256": f"split {split}",
        "provenance": {"commit": "3f9c2ab", "versions": {"jax": "0.10.2"}, "device": "CPU, 2 cores"},
    } | changes
    flags = [f"--config.seeds.{name}={seed}" for name, seed in result["seeds"].items()]
    flags += [f"--config.data.forget_fraction={fraction}", f"--config.data.remain_fraction={rho}"]
    workdir = f"out/{label.replace(' ', '-')}-{'-'.join(map(str, seeds))}"
    command = " ".join(
        ["python -m ltu_jax.unlearn --config", f"digits.py:{result['method']}", "--workdir", workdir, *flags]
    )
    return {"label": label, "command": command, "result": result}


def noisy_cells(labels, seeds, rng_seed=0, **changes):
    """Cells of several methods, each as far off as it likes."""
    rng = np.random.default_rng(rng_seed)
    return [cell(label, rng.normal(0, 3, 4), triple, **changes) for label in labels for triple in seeds]


def write(path, cells):
    path.write_text("".join(json.dumps(one) + "\n" for one in cells))
    return str(path)


def read_table(markdown):
    """The cells of the first Markdown table: {row: {column: text}}."""
    lines = [line for line in markdown.split("\n\n")[1].splitlines() if line.startswith("|")]
    heads, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == len(heads) for row in rows)
    return {row[0]: dict(zip(heads[1:], row[1:], strict=True)) for row in rows}
