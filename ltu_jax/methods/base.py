"""What an unlearning method is: four pure functions, optax's idea, and what they cost."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import flax.struct
import jax

from ltu_jax.config import METHOD_CONFIGS, needs
from ltu_jax.setting import ConfigError
from ltu_jax.training.cost import Cost
from ltu_jax.training.dispatch import Algorithm, SampleFn, StepFn
from ltu_jax.types import Metrics, Parts, UnlearnState, Visible, register_settings, static

for _kind in {type(make()) for make in METHOD_CONFIGS.values()}:
    register_settings(_kind)

InitFn = Callable[[jax.Array, UnlearnState, Visible], tuple[UnlearnState, Any]]

PARTS = {
    "bank": "a bank of at least two attackers (attackers.fit)",
    "updates": "an original trained with its updates recorded",
    "init_params": "a model that can be made untrained",
    "training": "the recipe that trained the original",
}
"""What a method may need, and what is allowed for it."""


class MethodCost(NamedTuple):
    """What a run passes through the model."""

    init: Cost
    step: Cost  # the mean of a step

    def of(self, num_steps: int) -> Cost:
        """Of a run of ``num_steps`` steps."""
        return self.init.plus(self.step, num_steps)


class UnlearningMethod(Algorithm, Protocol):
    """What the loop runs; it sees ``Visible`` and never test or validation rows.

    ``context`` is read-only (neighbour tables, a teacher): not donated, not checkpointed, rebuilt by ``init`` on
    resume. A one-shot method does its work in ``init`` and runs zero steps.
    """

    @property
    def sees_all(self) -> bool:
        """Whether ``visible.remain`` is all of it whatever rho is: true of retraining alone."""
        ...

    @property
    def sees_held_out(self) -> bool:
        """Whether ``visible.held_out`` has rows of the reserve: true of LTU by margins."""
        ...

    @property
    def cost(self) -> Callable[[Visible], MethodCost] | None:
        """What ``init`` and a step pass through the model; None where it is not stated."""
        ...

    def init(self, key: jax.Array, state: UnlearnState, visible: Visible, /) -> tuple[UnlearnState, Any]:
        """State and context of the first step; pure; the steps consume the state's arrays, not the context's."""
        ...

    def num_steps(self, visible: Visible, /) -> int:
        """Steps of a whole run, from the shapes of what is visible."""
        ...


@flax.struct.dataclass
class Method:
    """An ``UnlearningMethod`` of one's own, made of functions; those of this package are classes of their own.

    Programs are compiled once for the same functions: numbers that vary belong into what ``init`` returns.
    """

    init: InitFn = static()
    """``init(key, state, visible) -> (state, context)``."""
    sample: SampleFn = static()
    """``sample(key, step, context, visible) -> draw``; key is ``fold_in(state.rng, step)``."""
    step: StepFn = static()
    """``step(state, context, draw) -> (state, metrics)``; draws nothing, so that it can be replayed."""
    num_steps: Callable[[Visible], int] = static()
    sees_all: bool = static(False)
    sees_held_out: bool = static(False)
    cost: Callable[[Visible], MethodCost] | None = static(None)

    def __post_init__(self) -> None:
        """Refuses what is no function."""
        for name in ("init", "sample", "step", "num_steps"):
            if not callable(value := getattr(self, name)):
                raise ConfigError(f"Method.{name}: {value!r} is no function; allowed: one, such as lambda visible: 10")


@flax.struct.dataclass
class SettingsMethod:
    """What the methods of this package share: each is a value made of its settings and the parts it works with."""

    settings: Any  # one of config.METHOD_CONFIGS: rates, weights and epochs are leaves
    parts: Parts

    @classmethod
    def build(cls, settings: Any, parts: Parts) -> Self:
        """The method with these settings.

        Raises:
          ValueError: if a part that it needs is missing.
        """
        for name in sorted(needs(settings)):
            if getattr(parts, name) is None:
                raise ValueError(
                    f"{settings.name or type(settings).__name__}: parts.{name} is missing; allowed: {PARTS[name]}"
                )
        return cls(settings, parts)

    @property
    def sees_all(self) -> bool:
        """Whether ``visible.remain`` is all of it whatever rho is."""
        return False

    @property
    def sees_held_out(self) -> bool:
        """Whether ``visible.held_out`` has rows of the reserve."""
        return False

    @property
    def augment(self) -> str:
        """How it augments its images."""
        return self.parts.augment if self.settings.augment else "none"


class OneShot(SettingsMethod):
    """A method that does all its work in ``init`` and runs no step."""

    def sample(self, key: jax.Array, step: jax.Array, context: Any, visible: Visible) -> Any:
        """Never called."""
        raise AssertionError("a one-shot method takes no step")

    def step(self, state: UnlearnState, context: Any, draw: Any) -> tuple[UnlearnState, Metrics]:
        """Never called."""
        raise AssertionError("a one-shot method takes no step")

    def num_steps(self, visible: Visible) -> int:
        """None."""
        return 0


def one_shot(init: InitFn, cost: Callable[[Visible], Cost] | None = None) -> Method:
    """A method of one's own that does all its work in ``init`` and runs no step."""

    def never(*args: Any) -> Any:
        raise AssertionError("a one-shot method takes no step")

    total = None if cost is None else lambda visible: MethodCost(cost(visible), Cost())
    return Method(init, never, never, lambda visible: 0, cost=total)
