"""What an unlearning method is: four pure functions, optax's idea."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltu_jax.training.dispatch import SampleFn, StepFn
from ltu_jax.types import UnlearnState, Visible

InitFn = Callable[[jax.Array, UnlearnState, Visible], tuple[UnlearnState, Any]]


class Method(NamedTuple):
    """An unlearning method; it sees ``Visible`` and never test, validation or reserve rows.

    ``context`` is read-only (attackers, neighbour tables, a teacher): not donated, not checkpointed,
    rebuilt by ``init`` on resume. A one-shot method does its work in ``init`` and runs zero steps.
    """

    init: InitFn
    """``init(key, state, visible) -> (state, context)``; pure, for the loop calls it twice to leave
    compilation out of UT; must copy what it keeps of ``state``."""
    sample: SampleFn
    """``sample(key, step, context, visible) -> draw``; key is ``fold_in(state.rng, step)``."""
    step: StepFn
    """``step(state, context, draw) -> (state, metrics)``; draws nothing, so that it can be replayed."""
    num_steps: Callable[[Visible], int]
    """Steps of a whole run, from the shapes of what is visible."""
    sees_all: bool = False
    """Whether ``visible.remain`` is all of it whatever rho is: true of Retrain alone."""
