r"""The same as ``defaults.py`` on 5,000 real images, seeds 0 to 9.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/defaults_cifar10_jpeg.py --out runs/defaults_cifar10_jpeg
python experiments/defaults.py runs/defaults_cifar10_jpeg/results.jsonl
"""

import dataclasses

from experiments.sweeps import defaults
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(
        defaults.get_sweep(),
        config="experiments/configs/cifar10_jpeg_small.py",
        seeds=range(10),
        settings={"evaluation.num_retrain": 2},
    )
