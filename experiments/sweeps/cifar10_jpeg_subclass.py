"""Forgets a sub-class, ship within vehicles, of a model that separates vehicles from animals; one seed.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg_subclass.py --out runs/cifar10_jpeg_subclass
python -m ltu_jax.tables 1 runs/cifar10_jpeg_subclass/results.jsonl
"""

import dataclasses

from experiments.sweeps import cifar10_jpeg_class
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    whole = cifar10_jpeg_class.get_sweep()
    vehicle_or_animal = (0, 0, 1, 1, 0)  # airplane, automobile, frog, horse, ship
    subclass = {"data.forget_kind": "subclass", "data.superclasses": vehicle_or_animal}
    return dataclasses.replace(whole, settings={**whole.settings, **subclass})
