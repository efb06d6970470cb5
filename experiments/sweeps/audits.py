r"""What the audits find of eight methods on 5,000 real images: 10 % to forget, rho 0.3, seeds 0 and 1.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/audits.py --out runs/audits
python experiments/audit_sweep.py experiments/sweeps/audits.py --out runs/audits

LTU is as shipped. The others have the rates that a search found for this problem at rho 1, for as many epochs as where
the study's searches begin, and see two remaining rows for one to forget, as there: see ``study.py``.
"""

import json

from experiments.sweeps import study
from experiments.sweeps.cifar10_jpeg import TUNED
from ltu_jax.sweeping import Row, Sweep

SHOWN = ("SalUn", "BadT", "RandL", "Amnesiac (relabel)", "NegGrad+", "FT")


def rows() -> list[Row]:
    """The methods with their settings."""
    found, begun = json.loads(TUNED.read_text())["rows"], {row.label: row for row in study.rows()}
    others = []
    for label in SHOWN:
        best = {name: value for name, value in found[label]["best"].items() if name != "method.epochs"}
        others.append(Row(label, begun[label].method, {**begun[label].settings, **best}))
    return [Row("Retrain", "retrain"), Row("LTU", "ltu"), *others]


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="experiments/configs/cifar10_jpeg_small.py",
        rows=rows(),
        seeds=(0, 1),
        remain_fractions=(0.3,),
        forget_fractions=(0.1,),
        settings={"evaluation.num_retrain": 2},
    )
