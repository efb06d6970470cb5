r"""Tables 3 and 4 of the study: what each part of LTU adds, with every variant searched again.

export TFDS_DATA_DIR=...
python experiments/tune.py experiments/sweeps/study_parts.py --out experiments/results/study/tuned_parts.json \
    --trials 4 --prune --runs runs/study-tune
python experiments/sweep.py experiments/sweeps/study_parts.py --out runs/study_parts --cache runs/study/cache
python experiments/tables.py 3 runs/study_parts/results.jsonl

The default is LTU without meta-optimization and without random labels. *RandL in the support* are the random labels of
Eq. 6 as a plain loss; *MetaOpt* takes the inner step on them, exactly. *attackers* are those of Eq. 11, fitted on the
original. UAM, ROSU and LUR are other forms of meta-optimization (``experiments/relatives.py``).
"""

import dataclasses
from pathlib import Path

from experiments.grid import Row, Sweep
from experiments.sweeps import study
from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS, rate

TUNED = Path("experiments/results/study/tuned_parts.json")
SUPPORT = {"method.relabel": "step"}
ATTACKERS = {**BY_ATTACKERS, "attackers.fitted_on": "original", "method.epochs": 5.0}
ONE_QUERY = {"method.num_queries": 1, "method.query_size": 100, "method.samplers": ("uniform",)}
INNER = {"method.inner_learning_rate": (0.003, 0.1, "log")}
RADIUS = {"method.inner_learning_rate": (0.1, 10.0, "log")}


def relative(name: str, **settings: object) -> dict[str, object]:
    """The settings of a method of ``relatives.py``."""
    return {"method.name": f"experiments.relatives:{name}", **{f"method.{key}": to for key, to in settings.items()}}


def rows() -> list[Row]:
    """LTU, and what differs from it in one part."""
    space = {**rate(3e-4, 3e-3), "method.forget_weight": (0.2, 1.5, "log")}
    inner, sgd = {**rate(3e-4, 3e-3), **INNER}, rate(0.003, 0.03)
    variants = {
        "LTU": ({}, space),
        "LTU (w/o ForFeed)": ({"method.forget": False}, rate(3e-4, 1e-2)),
        "LTU (w/o RemFeed)": ({"method.remember": False}, rate(1e-4, 3e-3)),
        "LTU (w/ GradAdd)": ({"method.combine": "add"}, space),
        "LTU (w/ Iterative Grad)": ({"method.combine": "alternate"}, space),
        "LTU (w/ RandL in the support)": (SUPPORT, space),
        "LTU (w/ MetaOpt)": ({**SUPPORT, "method.order": "second"}, inner),
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


def meta_and_projection() -> list[Row]:
    """The variants without meta-optimization and projection, for other problems than that of the search."""
    names = "LTU (w/ GradAdd)", "LTU (w/ RandL in the support)", "LTU (w/ MetaOpt)"
    return study.searched([row for row in rows() if row.label in names], TUNED)


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(study.get_sweep(), rows=rows(), tuned=str(TUNED) if TUNED.exists() else None)
