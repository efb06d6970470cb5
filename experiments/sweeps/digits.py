"""Every method on digits, three seeds, on two CPU cores.

python experiments/sweep.py experiments/sweeps/digits.py --out runs/digits-sweep
python experiments/tune.py experiments/sweeps/digits.py --out runs/digits-tune/tuned.json
python experiments/tables.py 1 runs/digits-sweep/results.jsonl

Published settings, but for the batch size: 50, where the published 256 are more rows than there are. To use what was
tuned give ``Sweep`` the line ``tuned="runs/digits-tune/tuned.json"``.
"""

from grid import Row, Sweep

BATCH = {"method.batch_size": 50}
RATE = {"method.learning_rate": (1e-4, 0.1, "log")}
ADAM_RATE = {"method.learning_rate": (1e-5, 1e-2, "log")}
EPOCHS = {"method.epochs": (1.0, 10.0)}


def get_sweep() -> Sweep:
    """The sweep: baselines at rho 1 and LTU at 0.3, as in the paper's Table 1."""
    rows = [
        Row("FT", "finetune", BATCH, space=RATE),
        Row("RandL", "random_label", BATCH, space=RATE),
        Row("GA", "gradient_ascent", BATCH, space=RATE),
        Row("Amnesiac", "amnesiac", BATCH, space={"method.recorded_epochs": (0.2, 60.0, "log")}),
        Row("Amnesiac (relabel)", "amnesiac_relabel", BATCH, space={**ADAM_RATE, **EPOCHS}),
        Row("Fisher", "fisher", BATCH, space={"method.alpha": (1e-14, 1e-6, "log")}),
        Row("SSD", "ssd", BATCH, space={"method.alpha": (1.0, 50.0, "log"), "method.dampening": (0.1, 1.0)}),
        Row("BadT", "bad_teacher", BATCH, space={**ADAM_RATE, **EPOCHS}),
        Row("SalUn", "salun", BATCH, space={**RATE, "method.keep_fraction": [0.1, 0.3, 0.5, 0.7, 0.9]}),
        Row("NegGrad+", "neggrad_plus", BATCH, space={**RATE, "method.remain_weight": (0.8, 0.999)}),
        Row("SCRUB", "scrub", BATCH, space={**ADAM_RATE, "method.max_epochs": (1.0, 10.0)}),
        # A third of what Retrain costs here, 1.16e10 flops.
        Row("Partial retrain", "partial_retrain", {"method.flops": 4e9}, space={"method.flops": (1e9, 1e10, "log")}),
        Row("LTU", "ltu", remain_fraction=0.3, space={"method.learning_rate": (1e-3, 3e-2, "log")}),
    ]
    return Sweep(
        config="experiments/configs/digits.py",
        rows=rows,
        seeds=(0, 1, 2),
        remain_fractions=(1.0,),
        tuning_seeds=(10, 11),
    )
