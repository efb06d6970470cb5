"""The problem of kill.py, damage.py, disk_full.py and soak.py: digits, with a model that compiles in a second.

python -m ltu_jax.unlearn --config experiments/reliability/small.py

The model is plain functions. Every stage takes seconds, so that a kill can hit any of them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax import config
from ltu_jax.models.build import ModelSpec

WIDTH = 1024


def get_config(method: str = "ltu") -> config.Config:
    """The settings."""
    settings = config.method_config(method)
    settings.batch_size = 20
    if hasattr(settings, "epochs"):
        settings.epochs = 20.0
    return config.Config(
        data=config.Data(train_size=200, forget_fraction=0.2),
        model=config.Model("experiments.reliability.small:build"),
        training=config.Training(epochs=40, batch_size=20),
        attackers=config.Attackers(names=("sorted", "metrics"), num_shadows=2, epochs=5, draws=1),
        method=settings,
        calibration=config.Calibration(trials=3, evaluations=5),
        save_every=20,
        save_seconds=0.5,
        eval_every=20 if method == "ltu" else 0,
    )


def build(model: config.Model, num_classes: int, image_shape: tuple[int, ...]) -> ModelSpec:
    """Two dense layers with running statistics like BatchNorm's between them, so that a state is saved too."""
    size = int(np.prod(image_shape))

    def init(key: jax.Array) -> tuple[dict, dict]:
        one, two = jax.random.split(key)
        params = {"w1": jax.random.normal(one, (size, WIDTH)) / size**0.5}
        params["w2"] = jax.random.normal(two, (WIDTH, num_classes)) / WIDTH**0.5
        return params, {"mean": jnp.zeros(WIDTH)}

    def features(params: dict, model_state: dict, images: jax.Array) -> jax.Array:
        return jnp.tanh((images - 0.5).reshape(len(images), size) @ params["w1"] - model_state["mean"][None])

    def apply_fn(params: dict, model_state: dict, images: jax.Array, train: bool) -> tuple[jax.Array, dict]:
        hidden = features(params, model_state, images)
        mean = 0.9 * model_state["mean"] + 0.1 * jax.lax.stop_gradient(hidden.mean(0)) if train else model_state["mean"]
        return hidden @ params["w2"], {"mean": mean}

    return ModelSpec(init, apply_fn, features)
