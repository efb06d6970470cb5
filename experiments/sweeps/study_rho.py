r"""The study at rho 0.1 and 1: the four nearest methods, LTU, and LTU with other parts, five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_rho.py --out runs/study_rho --cache runs/study/cache
python -m ltu_jax.tables 2 runs/study_rho/results.jsonl
"""

import dataclasses

from experiments.sweeps import study, study_fractions, study_parts
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    rows = [*study.nearest(4), *study_parts.meta_and_projection()]
    whole = study_fractions.get_sweep()
    return dataclasses.replace(
        whole, rows=rows, seeds=range(3, 8), remain_fractions=(0.1, 1.0), forget_fractions=(0.3,)
    )
