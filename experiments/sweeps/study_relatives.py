r"""LTU by the attackers of Eq. 11, and its nearest relatives: UAM, ROSU and LUR; each searched, five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/study_relatives.py \
    --out experiments/results/study/tuned_relatives.json --trials 3 --prune --runs runs/study-tune
python -m ltu_jax.sweep experiments/sweeps/study_relatives.py --out runs/study_relatives --cache runs/study/cache
python -m ltu_jax.tables 1 runs/study_parts/results.jsonl runs/study_relatives/results.jsonl

*attackers* are fitted on the original. UAM, ROSU and LUR are other forms of meta-optimization
(``experiments/relatives.py``).
"""

import dataclasses
from pathlib import Path

from experiments.sweeps import study_parts
from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS, rate
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/study/tuned_relatives.json")
ATTACKERS = {**BY_ATTACKERS, "attackers.fitted_on": "original", "method.epochs": 5.0}
ONE_QUERY = {"method.num_queries": 1, "method.query_size": 100, "method.samplers": ("uniform",)}
RADIUS = {"method.inner_learning_rate": (0.1, 10.0, "log")}


def relative(name: str, **settings: object) -> dict[str, object]:
    """The settings of a method of ``relatives.py``."""
    return {"method.name": f"experiments.relatives:{name}", **{f"method.{key}": to for key, to in settings.items()}}


def rows() -> list[Row]:
    """The forms, each with its search space."""
    inner, sgd = {**rate(3e-4, 3e-3), **study_parts.INNER}, rate(0.003, 0.03)
    variants = {
        "LTU (w/ attackers)": ({**ATTACKERS, "method.order": "none"}, sgd),
        "LTU (w/ attackers and MetaOpt)": (ATTACKERS, sgd),
        "LUR, by margins": (relative("lur_by_margins", order="second"), inner),
        "LUR": (
            relative("lur", order="second", forget_weight=0.03),
            {**inner, "method.forget_weight": (0.01, 0.3, "log")},
        ),
        "UAM": ({**relative("uam", inner_learning_rate=1.0), **ONE_QUERY}, {**rate(3e-4, 1e-2), **RADIUS}),
        "ROSU": ({**relative("rosu", inner_learning_rate=1.0), **ONE_QUERY}, {**rate(3e-4, 1e-2), **RADIUS}),
    }
    return [Row(label, "ltu", settings, space=space) for label, (settings, space) in variants.items()]


def get_sweep() -> Sweep:
    """The sweep."""
    tuned = str(TUNED) if TUNED.exists() else None
    return dataclasses.replace(study_parts.get_sweep(), rows=rows(), tuned=tuned)
