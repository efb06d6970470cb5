"""Tables 3 and 4 on 5,000 real images, every variant at the settings that were tuned for LTU.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg_fixed.py --out runs/cifar10_jpeg_fixed
python -m ltu_jax.tables 4 runs/cifar10_jpeg_fixed/results.jsonl
"""

import dataclasses
import json

from experiments.sweeps import cifar10_jpeg_ablations as ablations
from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS
from ltu_jax.sweeping import Row, Sweep


def get_sweep() -> Sweep:
    """The sweep; with untuned settings until tuned ones exist."""
    tuned = ablations.TUNED
    best = BY_ATTACKERS | (json.loads(tuned.read_text())["rows"]["LTU"]["best"] if tuned.exists() else {})
    rows = [Row(label, "ltu", {**best, **settings}, 0.3) for label, settings in ablations.VARIANTS.items()]
    twice = {**best, "method.combine": "alternate", "method.epochs": 2 * best["method.epochs"]}
    rows.append(Row("LTU (w/ Iterative Grad, twice the updates)", "ltu", twice, 0.3))
    return dataclasses.replace(ablations.get_sweep(), rows=rows, tuned=None, tuning_seeds=())
