"""The settings of a whole problem of seconds: digits with a small model of plain functions."""

from ltu_jax import config

BY_ATTACKERS = {
    "forget_by": "attackers", "forget_weight": 1.0, "relabel": "step", "order": "second", "optimizer": "sgd",
    "learning_rate": 0.01,
}  # fmt: skip
"""LTU with all the parts of a problem: attackers say what is forgotten, by meta-gradients."""


def small_config(**changes):
    fields = {
        "data": config.Data(train_size=80, forget_fraction=0.2),
        "model": config.Model("mlp:build"),
        "training": config.Training(epochs=5, batch_size=20),
        "attackers": config.Attackers(names=("sorted", "metrics"), num_shadows=2, epochs=2, draws=1),
        "method": config.LTU(**BY_ATTACKERS, epochs=2, batch_size=8, query_size=8),
        "evaluation": config.Evaluation(num_retrain=2),
    }
    return config.resolve(config.Config(**{**fields, **changes}))
