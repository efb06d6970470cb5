"""Folders of finished runs with scores that a test chooses; nothing is trained."""

import json

MEASURES = ("ua", "ra", "ta", "mi")


def made_result(method="ltu", seed=0, gaps=(1.0, 2.0, 3.0, 4.0), flops=None, **changes):
    """A result whose Retrain depends on the seed alone, and whose method is off it by ``gaps``."""
    retrain = {"ua": 10.0 + seed, "ra": 99.0, "ta": 90.0 - seed, "mi": 45.0}
    scores = {name: retrain[name] - gap for name, gap in zip(MEASURES, gaps, strict=True)}
    result = {
        "schema_version": 2,
        "method": method,
        "seeds": {"train": seed, "split": seed, "unlearn": seed},
        "dataset": "digits",
        "model": "resnet8",
        "forget": {"kind": "random", "count": 90, "fraction": 0.3, "sha256": f"{seed:064x}"},
        "rho": 0.3,
        "scores": {**scores, "ut_minutes": 0.5 + seed},
        "original": {"ua": 0.0, "ra": 100.0, "ta": 93.0 - seed, "mi": 4.0},
        "retrain": {**retrain, "ut_minutes": 4.0},
        "retrain_spread": {"ua": 1.1, "ra": 0.1, "ta": 0.7, "mi": 2.1, "mean": 1.0},
        "gap": {**dict(zip(MEASURES, gaps, strict=True)), "mean": sum(gaps) / 4},
        "original_gap": {"ua": 10.0 + seed, "ra": 1.0, "ta": 3.0, "mi": 41.0, "mean": (55.0 + seed) / 4},
        "attackers": [],
        "warnings": [],
        "ratio": None if flops is None else 2.5,
        "cost": None
        if flops is None
        else {"forward_images": 12345.0, "backward_images": 678.0, "flops": flops, "compile_s": 1.0, "run_s": 2.0},
        "time": {"compile_s": 18.0, "unlearn_s": 30.0, "original_s": 37.0, "attackers_s": None, "retrain_s": 240.0},
        "splits_sha256": f"{seed + 256:064x}",
        "provenance": {"commit": "3f9c2ab", "versions": {"jax": "0.10.2"}, "device": "cpu", "started": "2026-11-24"},
    }
    return result | changes


def write_run(folder, result, **settings):
    """Writes a run's folder: ``settings`` are the method's in config.json, which is left out if there are none."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    if settings:
        config = {"seed": 0, "seeds": result["seeds"], "data": {"data_dir": str(folder), "remain_fraction": 0.3}}
        config |= {"method": settings, "training": {"learning_rate": 0.1}, "save_every": len(folder.name)}
        (folder / "config.json").write_text(json.dumps(config))
    return folder
