"""The paper's CIFAR-10 problem at its full size on cifar10_jpeg, for a GPU: 45,000 rows, 10 % to forget. Not run here.

export TFDS_DATA_DIR=...
python experiments/paper_size.py --seed 0 --out runs/paper_size        one process for all rows of a seed
python -m ltu_jax.sweep experiments/sweeps/paper_size.py --out DIR --cluster slurm --slurm gpus_per_node=1

Nothing was tuned: rates and epochs are the published ones, LTU's as it ships. Batches are those nearest to the
published ones of which a run takes a multiple of 25 steps, as many as a call takes on a GPU: with any remainder
another program is compiled, which takes longer than the run.
"""

from ltu_jax.sweeping import Row, Sweep

WHOLE = {
    "data.name": "cifar10_jpeg",
    "data.validation_fraction": 0.05,
    "data.reserve_size": 2500,
    "model.dtype": "bfloat16",
    "training.epochs": 30,
    "training.batch_size": 300,
    "training.schedule": "cosine",
    "training.warmup_epochs": 2.0,
    "attackers.fitted_on": "original",
    "evaluation.num_retrain": 2,
}
"""No file of a configuration of its own: with these the problem is ``configs/cifar10_resnet18.py``."""

TINY = {
    **WHOLE,
    "data.name": "digits",
    "data.train_size": 100,
    "data.test_size": 60,
    "data.reserve_size": 40,
    "model.name": "experiments.reliability.small:build",
    "training.epochs": 2,
    "attackers.names": ("sorted", "metrics"),
    "attackers.epochs": 2,
}
"""A minute on a CPU: shows that the program runs."""


def get_sweep(*, tiny: bool = False) -> Sweep:
    """The sweep, or one of the same rows that takes a minute on a CPU."""
    rows = [
        Row("LTU", "ltu", {"method.batch_size": 180, "method.query_size": 180}, remain_fraction=0.3),
        Row("BadT", "bad_teacher", {"method.batch_size": 225}),  # published: 256
        Row("SalUn", "salun", {"method.batch_size": 250}),  # 256
        Row("RandL", "random_label", {"method.batch_size": 250}),  # 256
        Row("AMUN", "amun", {"method.batch_size": 120}),  # 128
    ]
    return Sweep(
        config="experiments/configs/cifar10_resnet18.py",
        rows=rows,
        seeds=(0, 1, 2),
        remain_fractions=(1.0,),
        settings=TINY if tiny else WHOLE,
    )
