"""Fits the attackers on shadow models of the reserve, or on the original itself.

Shadows are models of the same recipe, each trained on a random half of the reserve. Neither the original nor the
evaluating attacker ever sees these rows. The last shadow is held out to measure AUC.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.attackers.fit import Outputs, attacker_auc, collect_outputs, fit_bank, joined
from ltu_jax.config import Config
from ltu_jax.setting import ConfigError
from ltu_jax.training.jobs import ASKING, FIT, SHADOWS, Trainer, TrainingJob
from ltu_jax.types import ArrayTree, Source, UnlearnState


class Shadow(NamedTuple):
    """The training job of a shadow model, its training rows in random order, and as many other rows."""

    job: TrainingJob
    members: np.ndarray
    others: np.ndarray


def shadow(config: Config, reserve: np.ndarray, index: int) -> Shadow:
    """One shadow model, of a random half of the reserve."""
    rng = np.random.default_rng([config.seed_for("train"), SHADOWS, index])
    members, others = np.array_split(rng.permutation(reserve), 2)
    label = f"shadow {index + 1}/{config.attackers.num_shadows}"
    return Shadow(TrainingJob(label, np.sort(members), SHADOWS, index), members, others)


def outputs_of(
    config: Config,
    source: Source,
    state: UnlearnState,
    members: np.ndarray,
    others: np.ndarray,
    key: jax.Array,
    draws: int = 1,
) -> Outputs:
    """``collect_outputs`` on rows of a source, with the batch size and augmentation of the configuration."""
    return collect_outputs(
        state.apply_fn,
        state.params,
        state.model_state,
        source.rows(members),
        source.rows(others),
        key,
        batch_size=config.training.batch_size,
        augment=config.data.augment,
        draws=draws,
    )


def fit_on_shadows(trainer: Trainer, reserve: np.ndarray) -> dict[str, ArrayTree]:
    """Attackers fitted on shadow models.

    Args:
      trainer: trains the shadows, or loads them from the cache.
      reserve: their rows.

    Returns:
      ``params`` of the attackers, ``auc`` of each on the last shadow, and ``seconds``: the time of the shadows'
      training steps and of all that follows.
    """
    config, outputs, seconds, start = trainer.config, [], 0.0, time.perf_counter()
    asking = jax.random.fold_in(jax.random.key(config.seed_for("train")), ASKING)
    for i in range(config.attackers.num_shadows):
        one, before = shadow(config, reserve, i), time.perf_counter()
        model = trainer.model(one.job)
        # Counts its training steps, whenever they ran, and not the time to load it from the cache.
        seconds += float(model["seconds"]) - (time.perf_counter() - before)
        is_held_out = i == config.attackers.num_shadows - 1
        draws, key = 1 if is_held_out else config.attackers.draws, jax.random.fold_in(asking, i)
        state = trainer.state_of(model)
        outputs.append(outputs_of(config, trainer.source, state, one.members, one.others, key, draws))
    fitted_on = joined(outputs[:-1])
    return _fitted(trainer, fitted_on, outputs[-1], start, seconds)


def fit_on_original(
    trainer: Trainer, original: UnlearnState, known: np.ndarray, held_out: np.ndarray
) -> dict[str, ArrayTree]:
    """Attackers fitted on the original itself: training rows against held-out rows.

    A fifth of each is kept to measure the attackers' AUC. Returns the same as ``fit_on_shadows``.

    Args:
      trainer: has the configuration and the source.
      original: the model.
      known: training rows, the rho subset.
      held_out: rows that the model never saw.

    Raises:
      ConfigError: if there are fewer than two of either.
    """
    for name, rows in (("remaining rows that are seen", known), ("held-out rows", held_out)):
        if len(rows) < 2:
            found = f"{len(rows)} {name}, by which attackers are fitted"
            raise ConfigError(f"config.attackers.fitted_on: 'original' with {found}; allowed: two or more of them")
    config, start = trainer.config, time.perf_counter()
    seed = config.seed_for("train")
    rng = np.random.default_rng([seed, SHADOWS])
    members, others = (np.split(rng.permutation(rows), [max(1, len(rows) // 5)]) for rows in (known, held_out))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), ASKING))
    kept, fitted_on = (
        outputs_of(config, trainer.source, original, members[part], others[part], keys[part], draws)
        for part, draws in enumerate((1, config.attackers.draws))
    )
    return _fitted(trainer, fitted_on, kept, start)


def _fitted(
    trainer: Trainer, outputs: Outputs, kept: Outputs, start: float, seconds: float = 0.0
) -> dict[str, ArrayTree]:
    """Attackers fitted on ``outputs``, their AUC on ``kept``, and ``seconds`` plus those since ``start``."""
    config = trainer.config
    key = jax.random.fold_in(jax.random.key(config.seed_for("train")), FIT)
    bank = fit_bank(outputs, config.attackers, trainer.source.num_classes, key)
    auc = {name: jnp.float32(value) for name, value in attacker_auc(bank, kept).items()}
    seconds += time.perf_counter() - start
    return {"params": bank.params, "auc": auc, "seconds": jnp.float32(seconds)}
