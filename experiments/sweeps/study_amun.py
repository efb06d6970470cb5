r"""AMUN in the study, by itself: its attack takes up to 450 passes over the forget rows.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/study_amun.py --out experiments/results/study/tuned_amun.json --trials 4 \
    --prune --runs runs/study-tune
python -m ltu_jax.sweep experiments/sweeps/study_amun.py --out runs/study_amun --cache runs/study/cache
python -m ltu_jax.tables 1 runs/study/results.jsonl runs/study_amun/results.jsonl
"""

import dataclasses
from pathlib import Path

from experiments.sweeps import study
from experiments.sweeps.cifar10_jpeg import rate
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/study/tuned_amun.json")


def get_sweep() -> Sweep:
    """The sweep."""
    space = {**rate(0.003, 0.1), **study.SHORT, "method.keep_true": [False, True]}
    return dataclasses.replace(
        study.get_sweep(),
        rows=[Row("AMUN", "amun", study.started(study.BOTH, 0.01, 3.0), space=space)],
        tuned=str(TUNED) if TUNED.exists() else None,
    )
