r"""The study at 10 and 50 % to forget: the eight nearest methods, LTU, and LTU with other parts, as searched at 30 %.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_fractions.py --out runs/study_fractions --cache runs/study/cache
python -m ltu_jax.tables 1 runs/study_fractions/results.jsonl
"""

import dataclasses

from experiments.sweeps import study, study_parts
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(
        study.get_sweep(),
        rows=[*study.nearest(8), *study_parts.meta_and_projection()],
        forget_fractions=(0.1, 0.5),
        tuned=None,
        tuning_seeds=(),
    )
