"""Settings of a small deletion request on toy data."""

import dataclasses

from ltu_jax import config
from ltu_jax.deletion.plan import request_config

MODEL = config.Model("mlp:build")


BY_ATTACKERS = {"forget_by": "attackers", "forget_weight": 1.0, "relabel": "step", "optimizer": "sgd"}


def by_margins(settings):
    """The same request, with what is forgotten told by the margins of held-out rows."""
    method = dataclasses.replace(settings.method, forget_by="margins", relabel="never", optimizer="adam")
    return dataclasses.replace(settings, method=method)


def request_settings(**calibration):
    settings = {"trials": 2, "evaluations": 4, **calibration}
    return request_config(
        config.resolve(
            config.Config(
                data=config.Data("toy", held_out="test", remain_fraction=0.8),
                model=MODEL,
                attackers=config.Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original"),
                method=config.LTU(
                    **BY_ATTACKERS,
                    epochs=6,
                    batch_size=8,
                    query_size=8,
                    learning_rate=0.02,
                    order="none",
                    num_queries=1,
                ),
                calibration=config.Calibration(**settings),
                evaluation=config.Evaluation(batch_size=10),  # of every set, so that one program serves all
                save_every=4,
            )
        )
    )
