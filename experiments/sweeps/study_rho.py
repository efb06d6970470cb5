r"""The study at rho 0.1 and 1: the four nearest methods, LTU, and LTU with other parts, five seeds.

export TFDS_DATA_DIR=...
python experiments/sweep.py experiments/sweeps/study_rho.py --out runs/study_rho --cache runs/study/cache
python experiments/tables.py 2 runs/study_rho/results.jsonl
"""

import dataclasses

from experiments.grid import Sweep
from experiments.sweeps import study, study_parts


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(
        study.get_sweep(),
        rows=[*study.nearest(4), *study_parts.meta_and_projection()],
        seeds=range(3, 8),
        remain_fractions=(0.1, 1.0),
        tuned=None,
        tuning_seeds=(),
    )
