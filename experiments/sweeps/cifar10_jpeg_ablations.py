r"""Tables 3 and 4 on 5,000 real images: what each part of LTU contributes, with every variant tuned again.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/cifar10_jpeg_ablations.py \
    --out experiments/results/cifar10_jpeg/tuned_ablations.json --runs runs/tune
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg_ablations.py --out runs/cifar10_jpeg_ablations
python -m ltu_jax.tables 3 runs/cifar10_jpeg_ablations/results.jsonl

``cifar10_jpeg_fixed.py`` has the same rows at the settings that were tuned for LTU. Iterative Grad takes as many steps
as the others, so it has the same number of updates but half as many gradients of each kind.
"""

from pathlib import Path

from experiments.sweeps.cifar10_jpeg import BY_ATTACKERS, LTU_SPACE
from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/cifar10_jpeg/tuned_ablations.json")
VARIANTS = {
    "LTU": {},
    "LTU (w/o ForFeed)": {"method.forget": False},
    "LTU (w/o RemFeed)": {"method.remember": False},
    "LTU (w/o MetaOpt)": {"method.order": "none"},
    "LTU (w/ GradAdd)": {"method.combine": "add"},
    "LTU (w/ Iterative Grad)": {"method.combine": "alternate"},
}


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="experiments/configs/cifar10_jpeg_small.py",
        rows=[Row(label, "ltu", BY_ATTACKERS | changes, 0.3, LTU_SPACE) for label, changes in VARIANTS.items()],
        seeds=(0, 1, 2),
        settings={"evaluation.num_retrain": 2},
        tuned=str(TUNED) if TUNED.exists() else None,
        tuning_seeds=(10,),
    )
