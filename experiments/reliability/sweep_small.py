"""The sweep of ``kill.py``: two rows of the small problem, each with a search space for tuning."""

from pathlib import Path

from ltu_jax.sweeping import Row, Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config=str(Path(__file__).with_name("small.py")),
        rows=[
            Row("LTU", "ltu", space={"method.learning_rate": (0.001, 0.1, "log")}),
            Row("FT", "finetune", space={"method.learning_rate": (0.001, 0.1, "log")}),
        ],
        seeds=(0,),
        tuning_seeds=(10,),
    )
