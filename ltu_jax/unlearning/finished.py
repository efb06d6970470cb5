"""The model that a finished run left, for whatever comes next."""

from pathlib import Path

import jax

from ltu_jax.config import from_dict
from ltu_jax.models.build import build_model
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import UnlearnState, make_state


def load_model(workdir: str | Path) -> UnlearnState:
    """The unlearned model of a finished run: ``model/`` of its folder, the checksum tested.

    Args:
      workdir: folder of ``python -m ltu_jax.unlearn``; of several seeds, one of its ``seed-N``; of requests, one of its
        ``request-N``. A model of one's own is imported by the name that the run had for it.

    Returns:
      The model: ``state.apply_fn(state.params, state.model_state, images, train=False)`` gives logits f32[B,C] and its
      statistics, of images f32[B,H,W,3] in [0,1]. It can be unlearned again, trained or scored.

    Raises:
      ConfigError: if there is no finished run, or one of a version that did not note the model's sizes.
      CheckpointError: if the model is damaged.
    """
    folder = Path(workdir)
    try:
        config = from_dict(read_json(folder / "config.json"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"workdir: {str(folder)!r} is no run ({reason(error)}); allowed: the folder of one") from None
    if not (folder / "model").is_dir():
        raise ConfigError(f"workdir: {str(folder)!r} has no model yet; allowed: the folder of a finished run")
    tree, about = load_tree(folder / "model")
    if "image_shape" not in about:
        raise ConfigError(
            f"workdir: {str(folder)!r} does not say how its model is built: an older version's, or ltu_jax.forget's;"
            " allowed: runs and requests of the command"
        )
    spec = build_model(config.model, about["num_classes"], tuple(about["image_shape"]))
    return make_state(spec.apply_fn, tree["params"], tree["model_state"], SGD, jax.random.key(0))
