"""Forgets a whole class, ship, of the small cifar10_jpeg problem; one seed, settings as tuned for random rows.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg_class.py --out runs/cifar10_jpeg_class
python -m ltu_jax.tables 1 runs/cifar10_jpeg_class/results.jsonl

TA is over the classes that remain. Class-wise forgetting is usually done with GA and with RandL as SalUn does it.
"""

import dataclasses

from experiments.sweeps import cifar10_jpeg
from ltu_jax.sweeping import Sweep

SHOWN = ("FT", "RandL", "GA", "SalUn", "SCRUB", "LTU")


def get_sweep() -> Sweep:
    """The sweep."""
    whole = cifar10_jpeg.get_sweep()
    return dataclasses.replace(
        whole,
        rows=[row for row in whole.rows if row.label in SHOWN],
        seeds=(0,),
        settings={**whole.settings, "data.forget_kind": "class", "data.forget_class": 4},
    )
