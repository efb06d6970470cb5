r"""The study of ``experiments/results/PLAN.md``: every method at rho 0.3, 30 % of 5,000 real images to forget.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/study.py --out experiments/results/study/tuned.json --trials 6 --prune \
    --runs runs/study-tune
python -m ltu_jax.sweep experiments/sweeps/study.py --out runs/study
python -m ltu_jax.tables 1 runs/study/results.jsonl

Each search begins at the row's own settings: those that an earlier search found for 10 % to forget at rho 1, or
published ones. Where a method trains on forget and remaining rows alike, it sees two of these for one of those, as LTU
does. LTU's search ended at its defaults, where it began. AMUN stands in ``study_amun.py``.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.sweeps.cifar10_jpeg import SMALL, rate
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/study/tuned.json")
BOTH = {**SMALL, "method.remain_per_forget": 2.0}
LONG = {"method.epochs": [5.0, 10.0, 20.0]}
"""Passes over the 1,050 remaining rows that are visible."""
SHORT = {"method.epochs": [1.0, 2.0, 3.0]}
"""Passes over 1,500 forget rows and twice as many remaining ones."""


def started(settings: Mapping[str, Any], rate: float, epochs: float, **more: float) -> dict[str, Any]:
    """Settings with those that a search begins at."""
    given = {"learning_rate": rate, "epochs": epochs, **more}
    return {**settings, **{f"method.{name}": value for name, value in given.items()}}


def rows() -> list[Row]:
    """The methods, with where their searches begin and what they may try."""
    long = functools.partial(started, SMALL, epochs=10.0)
    ltu = {**rate(3e-4, 3e-3), "method.forget_weight": (0.2, 1.5, "log"), "method.query_size": [32, 64]}
    alpha, fraction = "method.alpha", {"method.fraction": [0.1, 0.2, 0.3]}
    lotus = {**BOTH, "method.target_accuracy": 82.0}  # what an original gets right of held-out rows, about
    return [
        Row("FT", "finetune", long(0.3), space={**rate(0.03, 0.5), **LONG}),
        Row("RandL", "random_label", started(BOTH, 0.02, 1.0), space={**rate(0.005, 0.1), **SHORT}),
        Row("GA", "gradient_ascent", started(SMALL, 0.04, 2.0), space={**rate(0.001, 0.1), **SHORT}),
        Row("Amnesiac (relabel)", "amnesiac_relabel", started(BOTH, 0.001, 1.0), space={**rate(2e-4, 5e-3), **SHORT}),
        Row("SSD", "ssd", {alpha: 5.0}, space={alpha: (1.0, 20.0, "log"), "method.dampening": (0.1, 1.0)}),
        Row("BadT", "bad_teacher", started(BOTH, 0.005, 2.0), space={**rate(5e-4, 1e-2), **SHORT}),
        Row("SalUn", "salun", started(BOTH, 0.02, 1.0), space={**rate(0.005, 0.1), **SHORT}),
        Row(
            "NegGrad+",
            "neggrad_plus",
            started(SMALL, 0.09, 10.0, remain_weight=0.85),
            space={**rate(0.01, 0.2), "method.remain_weight": (0.8, 0.99), **LONG},
        ),
        Row(
            "SCRUB",
            "scrub",
            started(BOTH, 0.001, 3.0, max_epochs=1.0),
            space={**rate(2e-4, 5e-3), "method.max_epochs": [1.0, 2.0]},
        ),
        Row("CT", "ct", long(0.05), space={**rate(0.01, 0.3), **LONG}),
        Row("NoT", "negate_first", long(0.1), space={**rate(0.01, 0.5), **LONG}),
        Row("l1-sparse", "l1_sparse", long(0.1), space={**rate(0.01, 0.5), alpha: (3e-5, 1e-3, "log")}),
        Row("MSG", "msg", started(SMALL, 0.05, 10.0), space={**rate(0.01, 0.3), **fraction, **LONG}),
        Row(
            "SFR-on",
            "sfr_on",
            started(SMALL, 0.01, 4.0),
            space={
                **rate(0.003, 0.05),
                "method.forget_weight": (3.0, 100.0, "log"),
                "method.saliency_ratio": [0.0, 1.0],
            },
        ),
        Row("LoTUS", "lotus", started(lotus, 3e-4, 3.0), space={**rate(5e-5, 2e-3), alpha: [2.0, 4.0, 8.0, 16.0]}),
        Row("LTU", "ltu", space=ltu),
    ]


def searched(rows: Sequence[Row], tuned: Path) -> list[Row]:
    """The rows at the best settings that a search found; as they are without one."""
    found = json.loads(tuned.read_text())["rows"] if tuned.exists() else {}
    bests = [found.get(row.label, {}).get("best", {}) for row in rows]
    return [Row(row.label, row.method, {**row.settings, **best}) for row, best in zip(rows, bests, strict=True)]


def nearest(count: int) -> list[Row]:
    """LTU, and the other methods that came nearest to Retrain in their search; all of them without one."""
    *others, ltu = searched(rows(), TUNED)
    if TUNED.exists():
        gaps = {label: row["gap"] for label, row in json.loads(TUNED.read_text())["rows"].items()}
        others = sorted(others, key=lambda row: gaps.get(row.label, math.inf))[
            :count
        ]  # a method may only have diverged
    return [*others, ltu]


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="experiments/configs/cifar10_jpeg_small.py",
        rows=rows(),
        seeds=range(3, 10),
        remain_fractions=(0.3,),
        forget_fractions=(0.3,),
        settings={"evaluation.num_retrain": 2},
        tuned=str(TUNED) if TUNED.exists() else None,
        tuning_seeds=(30, 31, 32),
    )
