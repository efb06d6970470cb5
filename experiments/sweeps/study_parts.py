r"""Tables 3 and 4 of the study: what each part of LTU adds, with every variant searched again; five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/study_parts.py --out experiments/results/study/tuned_parts.json \
    --trials 3 --prune --runs runs/study-tune
python -m ltu_jax.sweep experiments/sweeps/study_parts.py --out runs/study_parts --cache runs/study/cache
python -m ltu_jax.tables 3 runs/study_parts/results.jsonl

The default is LTU without meta-optimization and without random labels. *RandL in the support* are the random labels of
Eq. 6 as a plain loss; *MetaOpt* takes the inner step on them, exactly. Other forms of meta-optimization, and the
attackers of Eq. 11, are in ``study_relatives.py``.
"""

import dataclasses
from pathlib import Path

from experiments.sweeps import study
from experiments.sweeps.cifar10_jpeg import rate
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/study/tuned_parts.json")
SUPPORT = {"method.relabel": "step"}
INNER = {"method.inner_learning_rate": (0.003, 0.1, "log")}


def rows() -> list[Row]:
    """LTU, and what differs from it in one part."""
    space = {**rate(3e-4, 3e-3), "method.forget_weight": (0.2, 1.5, "log")}
    variants = {
        "LTU": ({}, {}),  # its search, in study.py, ended at its defaults
        "LTU (w/ RandL in the support)": (SUPPORT, space),
        "LTU (w/ MetaOpt)": ({**SUPPORT, "method.order": "second"}, {**rate(3e-4, 3e-3), **INNER}),
        "LTU (w/ GradAdd)": ({"method.combine": "add"}, space),
        "LTU (w/ Iterative Grad)": ({"method.combine": "alternate"}, space),
        "LTU (w/o ForFeed)": ({"method.forget": False}, rate(3e-4, 1e-2)),
        "LTU (w/o RemFeed)": ({"method.remember": False}, rate(1e-4, 3e-3)),
    }
    return [Row(label, "ltu", settings, space=space) for label, (settings, space) in variants.items()]


def meta_and_projection() -> list[Row]:
    """The variants without meta-optimization and projection, for other problems than that of the search."""
    names = "LTU (w/ GradAdd)", "LTU (w/ RandL in the support)", "LTU (w/ MetaOpt)"
    return study.searched([row for row in rows() if row.label in names], TUNED)


def get_sweep() -> Sweep:
    """The sweep."""
    tuned = str(TUNED) if TUNED.exists() else None
    return dataclasses.replace(study.get_sweep(), rows=rows(), seeds=range(3, 8), tuned=tuned)
