r"""Table 1's left half on 5,000 real images: every method, 10 % to forget, baselines at rho 1 and LTU at 0.3.

export TFDS_DATA_DIR=...
python -m ltu_jax.tune experiments/sweeps/cifar10_jpeg.py --out experiments/results/cifar10_jpeg/tuned.json \
    --runs runs/tune
python -m ltu_jax.sweep experiments/sweeps/cifar10_jpeg.py --out runs/cifar10_jpeg
python -m ltu_jax.tables 1 runs/cifar10_jpeg/results.jsonl

All methods use the original's batch size and a cosine schedule. The learning rate and one or two more settings of each
are tuned, eight trials per row, on a seed that the table never uses. Partial Retrain is not tuned: its rows are
budgets.
"""

from pathlib import Path

from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/cifar10_jpeg/tuned.json")
SMALL = {"method.batch_size": 100, "method.schedule": "cosine"}
EPOCHS = [1.0, 2.0, 3.0]
BY_ATTACKERS = {
    "method.forget_by": "attackers",
    "method.forget_weight": 1.0,
    "method.relabel": "step",
    "method.order": "second",
    "method.optimizer": "sgd",
    "method.learning_rate": 0.01,
    "method.epochs": 7.0,
    "method.query_size": 50,
}
"""LTU as all tables measured it: attackers say what is forgotten, by exact meta-gradients."""
LTU_SPACE = {"method.learning_rate": (0.003, 0.03, "log"), "method.epochs": [3.0, 5.0, 7.0, 10.0]}


def rate(low: float, high: float) -> dict[str, tuple[float, float, str]]:
    """A search space for the learning rate."""
    return {"method.learning_rate": (low, high, "log")}


def get_sweep() -> Sweep:
    """The sweep."""
    short = {**SMALL, "method.epochs": 2.0}
    heal = {**SMALL, "method.recorded_epochs": 5.0, "method.epochs": 1.0}
    rows = [
        Row("FT", "finetune", short, space={**rate(0.01, 0.5), "method.epochs": EPOCHS}),
        Row("RandL", "random_label", short, space={**rate(0.003, 0.1), "method.epochs": EPOCHS}),
        Row("GA", "gradient_ascent", short, space={**rate(1e-4, 0.1), "method.epochs": EPOCHS}),
        Row("Amnesiac", "amnesiac", heal, space={**rate(0.003, 0.3), "method.epochs": EPOCHS}),
        Row("Amnesiac (relabel)", "amnesiac_relabel", short, space={**rate(1e-4, 1e-2), "method.epochs": EPOCHS}),
        Row("Fisher", "fisher", {"method.batch_size": 4}, space={"method.alpha": (1e-12, 1e-6, "log")}),
        Row("SSD", "ssd", space={"method.alpha": (1.0, 20.0, "log"), "method.dampening": (0.1, 1.0)}),
        Row("BadT", "bad_teacher", short, space={**rate(1e-4, 1e-2), "method.epochs": EPOCHS}),
        Row("SalUn", "salun", short, space={**rate(0.003, 0.1), "method.epochs": EPOCHS}),
        Row("NegGrad+", "neggrad_plus", short, space={**rate(0.003, 0.1), "method.remain_weight": (0.8, 0.999)}),
        Row("SCRUB", "scrub", short, space={**rate(1e-4, 1e-2), "method.max_epochs": [1.0, 2.0]}),
        *(
            Row(f"Partial Retrain, {flops:g} flops", "partial_retrain", {"method.flops": flops})
            for flops in (4e11, 8e11, 1.6e12, 3.2e12)
        ),
        Row("LTU", "ltu", BY_ATTACKERS, remain_fraction=0.3, space=LTU_SPACE),
    ]
    return Sweep(
        config="experiments/configs/cifar10_jpeg_small.py",
        rows=rows,
        seeds=(0, 1, 2),
        remain_fractions=(1.0,),
        settings={"evaluation.num_retrain": 2},
        tuned=str(TUNED) if TUNED.exists() else None,
        tuning_seeds=(10,),
    )
