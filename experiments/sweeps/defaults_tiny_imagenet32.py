r"""The same as ``defaults.py`` with a small ViT, seeds 0 to 2.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/defaults_tiny_imagenet32.py --out runs/defaults_tiny_imagenet32
python experiments/defaults.py runs/defaults_tiny_imagenet32/results.jsonl
"""

import dataclasses

from experiments.sweeps import defaults
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(
        defaults.get_sweep(), config="experiments/configs/tiny_imagenet32_vit.py", seeds=range(3)
    )
