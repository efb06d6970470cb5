"""The method of a run, with its settings, on another request: on another original, or by another seed."""

import dataclasses

from ltu_jax.config import needs
from ltu_jax.training.cache import CacheEntry, cached
from ltu_jax.training.jobs import Trainer, code_sha256
from ltu_jax.types import ArrayTree, Source, Splits, UnlearnState
from ltu_jax.unlearning.loop import run_problem
from ltu_jax.unlearning.problem import Loaded, prepare

NEEDS_RECORDING = "it needs what was recorded while the original was trained, for a request that was known then"


def why_not_again(trainer: Trainer) -> str | None:
    """Why the method of a run cannot be run on other originals; None where it can."""
    return NEEDS_RECORDING if "updates" in needs(trainer.config.method) else None


def unlearned_again(trainer: Trainer, source: Source, splits: Splits, original: ArrayTree, seed: int) -> UnlearnState:
    """An original after the run's method has made it forget; kept in the cache.

    Args:
      trainer: of the run.
      source: the data.
      splits: what is to be forgotten, what remains and what of it the method sees.
      original: ``{"params", "model_state"}``, trained on the rows of both.
      seed: of the unlearning.

    Raises:
      FloatingPointError: if it diverges.
      CheckpointError: as ``prepare``.
    """
    config = dataclasses.replace(
        trainer.config,
        seeds=dataclasses.replace(trainer.config.seeds, unlearn=seed),
        evaluation=dataclasses.replace(trainer.config.evaluation, num_retrain=0),
    )
    weights = {"params": original["params"], **original["model_state"]}
    loaded = Loaded(source, splits, trainer.spec, weights)
    problem = prepare(config, loaded=loaded, cache=trainer.cache, progress=trainer.progress)

    def make() -> dict[str, ArrayTree]:
        state, _ = run_problem(problem, progress=trainer.progress)
        return {"params": state.params, "model_state": state.model_state}

    key = [problem.identity, code_sha256(config.method.name)]  # an edited method is another one
    tree = cached(CacheEntry(trainer.cache, "unlearned", key), make)
    return problem.original.replace(params=tree["params"], model_state=tree["model_state"])
