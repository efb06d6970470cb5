"""Stands in for ``python -m ltu_jax.unlearn``: the same command line, no training.

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
    if "workdir" in flags:
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


def log_event(event):
    if "TOY_LOG" in os.environ:
        with open(os.environ["TOY_LOG"], "a") as log:
            log.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
