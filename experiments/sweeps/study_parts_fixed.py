r"""Tables 3 and 4 of the study with every variant at LTU's settings, as ``study_parts.py`` begins its searches.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_parts_fixed.py --out runs/study_parts_fixed --cache runs/study/cache
python experiments/differences.py gap runs/study_parts_fixed/results.jsonl --to LTU
python experiments/differences.py margin_forget runs/study_parts_fixed/results.jsonl --to LTU
"""

import dataclasses

from experiments.sweeps import study_parts
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(study_parts.get_sweep(), tuned=None, tuning_seeds=())
