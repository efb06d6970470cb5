r"""The study with a whole class to forget, ship: the rows of ``study_fractions.py``, five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_class.py --out runs/study_class --cache runs/study/cache
python -m ltu_jax.tables 1 runs/study_class/results.jsonl

TA is over the classes that remain.
"""

import dataclasses

from experiments.sweeps import study_fractions
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    whole = study_fractions.get_sweep()
    settings = {**whole.settings, "data.forget_kind": "class", "data.forget_class": 4}
    return dataclasses.replace(whole, seeds=range(3, 8), forget_fractions=(None,), settings=settings)
