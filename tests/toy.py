"""Stands in for ``python -m ltu_jax.unlearn`` and, with ``--level``, ``ltu_jax.audit``: no training.

``TOY_LOG`` names a file that gets a line when a run starts and when it ends; ``TOY_SECONDS`` is how long a run takes,
preparations aside; ``TOY_FAILS`` is a method whose runs diverge, or ``prepare METHOD``; those of ``TOY_CRASHES`` crash.
"""

import json
import math
import os
import pathlib
import sys
import time


def main(argv):
    words = [word.removeprefix("--") for word in argv]
    flags = dict(word.partition("=")[::2] for word in words if "=" in word)
    flags |= {a: b for a, b in zip(words[:-1], words[1:], strict=True) if a in ("config", "workdir", "cache")}
    method = flags["config"].rpartition(":")[2]
    name = pathlib.Path(flags["workdir"]).name if "workdir" in flags else f"prepare {method} {flags['config.seed']}"
    name = f"audit {name}" if "level" in flags else name
    event = {"pid": os.getpid(), "name": name, "cuda": os.environ.get("CUDA_VISIBLE_DEVICES")}
    event["cores"] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    log_event({**event, "event": "start"})
    task = method if "workdir" in flags else f"prepare {method}"
    if task == method:
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    if task == os.environ.get("TOY_CRASHES"):
        raise KeyError("a fault of the program")
    if task == os.environ.get("TOY_FAILS"):
        print("error: loss not finite in steps 1..2; try a smaller rate")
        return 1
    if "level" in flags:
        write_audit(pathlib.Path(flags["workdir"]), int(flags["level"]), int(flags["config.seed"]))
    elif "workdir" in flags:
        write_result(pathlib.Path(flags["workdir"]), float(flags.get("config.method.learning_rate", "0.01")))
    pathlib.Path(flags["cache"]).mkdir(parents=True, exist_ok=True)
    log_event({**event, "event": "end"})
    return 0


def write_result(workdir, learning_rate):
    """A gap whose best learning rate is 0.001."""
    gap = abs(math.log10(learning_rate) + 3)
    scores = {"ua": 10 + gap, "ra": 90.0, "ta": 80.0, "mi": 20.0, "ut_minutes": 0.1}
    provenance = {"commit": "0123456789ab", "device": "CPU, 2 cores"}
    workdir.mkdir(parents=True, exist_ok=True)
    result = {"scores": scores, "gap": {"mean": gap}, "provenance": provenance}
    (workdir / "result.json").write_text(json.dumps(result))


def write_audit(workdir, level, seed):
    """Of RMIA what depends on the seed, of IAM no p-value, canaries not made."""
    result = json.loads((workdir / "result.json").read_text())
    shared = {"floor": [0.4 + 0.02 * seed, 0.5], "not_done": None, "details": {"curve": [0] * 999}}

    def figure(value):
        return {"value": value, "low": value - 0.125, "high": value + 0.25, "smallest": 0.1}

    rmia = {
        "audit": "rmia",
        "unlearned": figure(0.5 + 0.1 * seed),
        "original": figure(0.875),
        "p_value": 0.01,
        **shared,
    }
    iam = {"audit": "iam", "unlearned": figure(result["scores"]["ua"]), "original": None, "p_value": None, **shared}
    canaries = {"audit": "canaries", "unlearned": figure(0.0), "not_done": "too few"}
    verdict = {"rmia": seed == 1, "iam": None, "canaries": None}
    outcome = {"level": level, "findings": [rmia, iam, canaries], "verdict": verdict}
    (workdir / "audit.json").write_text(json.dumps(outcome))


def log_event(event):
    if "TOY_LOG" in os.environ:
        with open(os.environ["TOY_LOG"], "a") as log:
            log.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
