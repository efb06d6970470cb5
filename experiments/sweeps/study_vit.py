r"""The study on a small ViT, 30 % of 5,000 rows of tiny_imagenet32: the rows of ``study_fractions.py``, three seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_vit.py --out runs/study_vit
python -m ltu_jax.tables 1 runs/study_vit/results.jsonl
"""

import dataclasses

from experiments.sweeps import study_fractions
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(
        study_fractions.get_sweep(),
        config="experiments/configs/tiny_imagenet32_vit.py",
        seeds=range(3),
        forget_fractions=(0.3,),
    )
