r"""The study with hard rows to forget: the 30 % whose loss varied most in the training of another seed; five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.difficulty --config experiments/configs/cifar10_jpeg_small.py --config.seeds.split=3 \
    --config.seeds.train=30 --out runs/study_hard/rows.csv --cache runs/study/cache
python -m ltu_jax.sweep experiments/sweeps/study_hard.py --out runs/study_hard --cache runs/study/cache
python -m ltu_jax.tables 1 runs/study_hard/results.jsonl

One split, so one set of rows; seeds vary training and unlearning. Hard rows have no held-out rows that are as hard, so
what counts is the distance to Retrain; LTU brings them to where ordinary rows lie that were held out.
"""

import dataclasses

from experiments.sweeps import study, study_fractions, study_parts
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    rows = [*study.nearest(4), *study_parts.meta_and_projection()]
    whole = study_fractions.get_sweep()
    hard = {"data.forget_kind": "hard", "data.difficulty": "runs/study_hard/rows.csv"}
    seeds = [{"train": seed, "split": 3, "unlearn": seed} for seed in range(3, 8)]
    return dataclasses.replace(
        whole, rows=rows, seeds=seeds, forget_fractions=(0.3,), settings={**whole.settings, **hard}
    )
