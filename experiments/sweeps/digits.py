"""Every method on digits, three seeds: minutes on two CPU cores.

python experiments/sweep.py experiments/sweeps/digits.py --out runs/digits-sweep
python experiments/tune.py experiments/sweeps/digits.py --out runs/digits-tune/tuned.json

The published settings are for batches of 256 out of 45,000 images; here an epoch of the 210 remaining rows is five
batches of 50, so rates are larger and epochs more.
"""

from grid import Row, Sweep

LEARNING_RATE = {"method.learning_rate": (1e-4, 0.1, "log")}
ADAM = {"method.learning_rate": (1e-5, 1e-2, "log")}
BATCH = {"method.batch_size": 50}


def get_sweep() -> Sweep:
    """The sweep: baselines at rho 1, LTU at 0.3, as in the paper's Table 1."""
    rows = [
        Row("FT", "finetune", BATCH, space=LEARNING_RATE),
        Row("RandL", "random_label", BATCH, space=LEARNING_RATE),
        Row("GA", "gradient_ascent", BATCH, space=LEARNING_RATE),
        Row("Amnesiac", "amnesiac", BATCH, space={"method.recorded_epochs": (0.2, 60.0, "log")}),
        Row("Amnesiac (relabel)", "amnesiac_relabel", BATCH, space=ADAM),
        Row("Fisher", "fisher", BATCH, space={"method.alpha": (1e-14, 1e-6, "log")}),
        Row("SSD", "ssd", BATCH, space={"method.alpha": (1.0, 50.0, "log"), "method.dampening": (0.1, 1.0)}),
        Row("BadT", "bad_teacher", BATCH, space=ADAM),
        Row("SalUn", "salun", BATCH, space={**LEARNING_RATE, "method.keep_fraction": [0.1, 0.3, 0.5, 0.7, 0.9]}),
        Row("NegGrad+", "neggrad_plus", BATCH, space={**LEARNING_RATE, "method.remain_weight": (0.8, 0.999)}),
        Row("SCRUB", "scrub", BATCH, space={**ADAM, "method.max_epochs": (1.0, 10.0)}),
        Row("Partial retrain", "partial_retrain", space={"method.flops": (1e9, 1e12, "log")}),
        Row("LTU", "ltu", remain_fraction=0.3, space={"method.learning_rate": (1e-3, 3e-2, "log")}),
    ]
    return Sweep(
        config="experiments/configs/digits.py",
        rows=rows,
        seeds=(0, 1, 2),
        remain_fractions=(1.0,),
        tuning_seeds=(10, 11),
    )
