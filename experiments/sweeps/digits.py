r"""Table 1 on digits: every method, 10 % to forget, baselines at rho 1 and LTU at 0.3, three seeds, two CPU cores.

python -m ltu_jax.tune experiments/sweeps/digits.py --out experiments/results/digits/tuned.json \
    --runs runs/digits-tune
python -m ltu_jax.sweep experiments/sweeps/digits.py --out runs/digits-sweep
python -m ltu_jax.tables 1 runs/digits-sweep/results.jsonl

All methods use batches of 50, because the published 256 are more rows than there are to forget, and a cosine schedule.
The learning rate and one or two more settings of each are tuned, eight trials per row, on seeds that the table never
uses.
"""

from pathlib import Path

from ltu_jax.sweeping import Row, Sweep

TUNED = Path("experiments/results/digits/tuned.json")
SMALL = {"method.batch_size": 50, "method.schedule": "cosine"}


def rate(low: float, high: float) -> dict[str, tuple[float, float, str]]:
    """A search space for the learning rate."""
    return {"method.learning_rate": (low, high, "log")}


def get_sweep() -> Sweep:
    """The sweep."""
    epochs = {"method.epochs": [3.0, 5.0, 10.0]}
    heal = {**SMALL, "method.recorded_epochs": 30.0, "method.epochs": 5.0}
    rows = [
        Row("FT", "finetune", SMALL, space={**rate(0.003, 0.5), **epochs}),
        Row("RandL", "random_label", SMALL, space={**rate(0.001, 0.1), **epochs}),
        Row("GA", "gradient_ascent", SMALL, space={**rate(1e-4, 0.1), **epochs}),
        Row("Amnesiac", "amnesiac", heal, space={**rate(0.001, 0.1), **epochs}),
        Row("Amnesiac (relabel)", "amnesiac_relabel", SMALL, space={**rate(1e-4, 1e-2), **epochs}),
        Row("Fisher", "fisher", {"method.batch_size": 4}, space={"method.alpha": (1e-10, 1e-6, "log")}),
        Row("SSD", "ssd", space={"method.alpha": (1.0, 20.0, "log"), "method.dampening": (0.1, 1.0)}),
        Row("BadT", "bad_teacher", {**SMALL, "method.epochs": 3.0}, space={**rate(1e-4, 1e-2), **epochs}),
        Row("SalUn", "salun", SMALL, space={**rate(0.001, 0.1), **epochs}),
        Row("NegGrad+", "neggrad_plus", SMALL, space={**rate(0.003, 0.1), "method.remain_weight": (0.8, 0.999)}),
        Row("SCRUB", "scrub", SMALL, space={**rate(1e-4, 1e-2), "method.max_epochs": [1.0, 2.0, 5.0]}),
        # A third of what Retrain costs here, 4.5e10 flops.
        Row("Partial Retrain, 1.5e10 flops", "partial_retrain", {"method.flops": 1.5e10}),
        Row("LTU", "ltu", remain_fraction=0.3, space={**rate(3e-4, 3e-3), "method.epochs": [5.0, 10.0, 20.0]}),
    ]
    return Sweep(
        config="experiments/configs/digits.py",
        rows=rows,
        seeds=(0, 1, 2),
        remain_fractions=(1.0,),
        tuned=str(TUNED) if TUNED.exists() else None,
        tuning_seeds=(10, 11),
    )
