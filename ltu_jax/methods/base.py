"""What an unlearning method is: four pure functions, optax's idea, and what they cost."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import SampleFn, StepFn
from ltu_jax.types import UnlearnState, Visible

InitFn = Callable[[jax.Array, UnlearnState, Visible], tuple[UnlearnState, Any]]


class MethodCost(NamedTuple):
    """What a run passes through the model."""

    init: Cost
    step: Cost  # the mean of a step

    def of(self, num_steps: int) -> Cost:
        """Of a run of ``num_steps`` steps."""
        return self.init.plus(self.step, num_steps)


class Method(NamedTuple):
    """An unlearning method; it sees ``Visible`` and never test, validation or reserve rows.

    ``context`` is read-only (attackers, neighbour tables, a teacher): not donated, not checkpointed,
    rebuilt by ``init`` on resume. A one-shot method does its work in ``init`` and runs zero steps.
    """

    init: InitFn
    """``init(key, state, visible) -> (state, context)``; pure; must copy what it keeps of ``state``."""
    sample: SampleFn
    """``sample(key, step, context, visible) -> draw``; key is ``fold_in(state.rng, step)``."""
    step: StepFn
    """``step(state, context, draw) -> (state, metrics)``; draws nothing, so that it can be replayed."""
    num_steps: Callable[[Visible], int]
    """Steps of a whole run, from the shapes of what is visible."""
    sees_all: bool = False
    """Whether ``visible.remain`` is all of it whatever rho is: true of retraining alone."""
    cost: Callable[[Visible], MethodCost] | None = None
    """What ``init`` and a step pass through the model; None where it is not stated."""


def one_shot(init: InitFn, cost: Callable[[Visible], Cost] | None = None) -> Method:
    """A method that does all its work in ``init`` and runs no step."""

    def never(*args: Any) -> Any:
        raise AssertionError("a one-shot method takes no step")

    total = None if cost is None else lambda visible: MethodCost(cost(visible), Cost())
    return Method(init, never, never, lambda visible: 0, cost=total)
