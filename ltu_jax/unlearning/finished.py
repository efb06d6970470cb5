"""What a finished run left, for whatever comes next: its model, and what it started from."""

from pathlib import Path

import jax

from ltu_jax.config import Config, from_dict
from ltu_jax.models.build import build_model
from ltu_jax.safe_reading import read_json, reason
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree
from ltu_jax.training.optimizers import SGD
from ltu_jax.types import Progress, UnlearnState, make_state, silent
from ltu_jax.unlearning.problem import Problem, prepare


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
    config = _config(folder)
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


def load_run(workdir: str | Path, cache: str | Path | None, progress: Progress = silent) -> Problem:
    """What a run started from: its data and rows, its original, its Retrains and their scores.

    Args:
      workdir: as for ``load_model``, but not of a request.
      cache: the run's ``--cache``, where the models are found. What is not there, or was made on another kind of
        machine, is trained again; None trains all again.
      progress: called with the training steps taken.

    Returns:
      The ``Problem``: ``problem.score(load_model(workdir))`` gives the run's scores.

    Raises:
      ConfigError: if there is no run, its models were trained several in a program, or its data are not there.
      CheckpointError: if a cache entry is damaged.
      FloatingPointError: if a training diverges.
    """
    config = _config(Path(workdir))
    if (config.at_once or 1) > 1:
        raise ConfigError(
            f"workdir: {str(workdir)!r} was run with --config.at_once={config.at_once}, whose models belong to all"
            " seeds of that command; allowed: a run of one seed a program"
        )
    if config.data.forget_kind == "ids" and config.data.forget_ids is None:
        raise ConfigError(f"workdir: {str(workdir)!r} is a deletion request; allowed: a run")
    return prepare(config, cache=None if cache is None else Path(cache), progress=progress)


def _config(folder: Path) -> Config:
    try:
        return from_dict(read_json(folder / "config.json"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"workdir: {str(folder)!r} is no run ({reason(error)}); allowed: the folder of one") from None
