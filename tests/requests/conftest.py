"""A trained toy model with rows to forget, a sample that stays and held-out rows: what a deployer has."""

import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.requests.fulfil import request_config
from ltu_jax.training.supervised import train

MODEL = config.Model("mlp:build")


@pytest.fixture(scope="session")
def source():
    return mlp.toy_source(num_rows=160, num_test=120)


@pytest.fixture(scope="session")
def spec(source):
    return mlp.build(MODEL, source.num_classes, source.images.shape[1:])


@pytest.fixture(scope="session")
def original(source, spec):
    """Knows its training rows by heart."""
    params, model_state = spec.init(jax.random.key(0))
    recipe = config.Training(epochs=150, batch_size=40, learning_rate=0.2, weight_decay=0.0)
    rows = source.rows(np.arange(source.num_train))
    state = train(spec.apply_fn, params, model_state, rows, recipe, jax.random.key(1)).state
    return {"params": jax.tree.map(jnp.asarray, state.params)}


@pytest.fixture
def settings():
    return request_settings()


def request_settings(**calibration):
    wanted = {"trials": 2, "evaluations": 4, **calibration}
    return request_config(
        config.resolve(
            config.Config(
                data=config.Data("toy", held_out="test", remain_fraction=0.8),
                model=MODEL,
                attackers=config.Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original"),
                method=config.LTU(
                    epochs=6, batch_size=8, query_size=8, learning_rate=0.02, order="none", num_queries=1
                ),
                calibration=config.Calibration(**wanted),
                evaluation=config.Evaluation(batch_size=10),  # of every set, so that one program serves all
                save_every=4,
            )
        )
    )
