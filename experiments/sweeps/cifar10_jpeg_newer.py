r"""Methods of 2023 to 2025 beside those of ``cifar10_jpeg.py``, on the same problem and seeds; tuned alike.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/cifar10_jpeg_newer.py \
    --out experiments/results/cifar10_jpeg/tuned_newer.json --runs runs/tune
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg_newer.py --out runs/cifar10_jpeg_newer
python -m ltu_jax.tables 1 runs/cifar10_jpeg/results.jsonl runs/cifar10_jpeg_newer/results.jsonl

The ranges are around the published values; each method has eight trials over two or three settings.
"""

import dataclasses
from pathlib import Path

from experiments.sweeps import cifar10_jpeg
from experiments.sweeps.cifar10_jpeg import SMALL, rate
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/cifar10_jpeg/tuned_newer.json")
TARGET = {"method.target_accuracy": 82.0}
"""What an original of this problem gets right of rows that it never saw, about, in percent."""


def rows() -> list[Row]:
    """The methods with what is searched."""
    epochs, alpha = {"method.epochs": [1.0, 2.0, 5.0, 10.0]}, "method.alpha"
    fractions = {"method.fraction": [0.1, 0.2, 0.3], "method.epochs": [3.0, 5.0, 10.0]}
    forget_epochs = {"method.saliency_ratio": [0.0, 1.0], "method.epochs": [4.0, 6.0, 8.0]}
    return [
        Row("CT", "ct", SMALL, space={**rate(0.003, 0.2), "method.epochs": [2.0, 3.0, 5.0, 10.0]}),
        Row("NoT", "negate_first", SMALL, space={**rate(0.01, 0.2), **epochs}),
        Row("l1-sparse", "l1_sparse", SMALL, space={**rate(0.003, 0.1), alpha: (3e-5, 1e-3, "log")}),
        Row("MSG", "msg", SMALL, space={**rate(0.003, 0.1), **fractions}),
        Row(
            "SFR-on",
            "sfr_on",
            SMALL,
            space={**rate(0.003, 0.03), "method.forget_weight": (5.0, 100.0, "log"), **forget_epochs},
        ),
        Row("LoTUS", "lotus", {**SMALL, **TARGET}, space={**rate(5e-5, 1e-3), alpha: [2.0, 4.0, 8.0, 16.0]}),
        Row(
            "AMUN",
            "amun",
            SMALL,
            space={**rate(0.003, 0.1), "method.epochs": [1.0, 3.0, 10.0], "method.keep_true": [False, True]},
        ),
    ]


def get_sweep() -> Sweep:
    """The sweep."""
    tuned = str(TUNED) if TUNED.exists() else None
    return dataclasses.replace(cifar10_jpeg.get_sweep(), rows=rows(), tuned=tuned)
