"""Optimizers whose hyperparameters live in their state, so that another rate compiles nothing."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.types import ArrayTree, UnlearnState

# Always float32, so that a step returns a state of the types that it took.
_in_state = functools.partial(optax.inject_hyperparams, hyperparam_dtype=jnp.float32)


@_in_state
def _sgd(learning_rate: float, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))


@_in_state
def _adam(learning_rate: float, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=momentum))


@_in_state
def _adamw(learning_rate: float, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, b1=momentum, weight_decay=weight_decay)


SGD: optax.GradientTransformation = _sgd(learning_rate=0.0, momentum=0.0, weight_decay=0.0)
"""SGD with momentum and L2 weight decay, as in PyTorch."""

ADAM: optax.GradientTransformation = _adam(learning_rate=0.0, momentum=0.9, weight_decay=0.0)
"""Adam with L2 weight decay added to the gradient, as in PyTorch; ``momentum`` is its first beta."""

ADAMW: optax.GradientTransformation = _adamw(learning_rate=0.0, momentum=0.9, weight_decay=0.0)
"""Adam whose weight decay shrinks the weights by ``rate * weight_decay`` beside the step, as in PyTorch."""

OPTIMIZERS = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW}

ASCENDING = {name: optax.chain(optax.scale(-1.0), tx) for name, tx in OPTIMIZERS.items()}
"""The same up the gradient; weight decay still shrinks the weights."""


class MaskState(NamedTuple):
    """State of ``MASKED``: which parameters may move."""

    mask: ArrayTree  # bool, of the shapes of the parameters


def _zero_outside(updates: ArrayTree, state: Any, params: Any = None) -> tuple[ArrayTree, Any]:
    del params
    return jax.tree.map(lambda m, u: jnp.where(m, u, 0), state.mask, updates), state


_mask = optax.GradientTransformation(
    lambda params: MaskState(jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)), _zero_outside
)

MASKED = {name: optax.chain(tx, _mask) for name, tx in OPTIMIZERS.items()}
"""The same, moving only where the state's ``mask`` (all true until set) allows it.

The mask comes after momentum and weight decay, so that masked parameters stay bit-equal.
"""


def set_hyperparams(state: UnlearnState, **numbers: float | jax.Array) -> UnlearnState:
    """The state with ``learning_rate``, ``momentum`` or ``weight_decay`` of its optimizer set."""
    values = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
    # Only scalars: momentum has the names of the parameters, and one of them might be called so.
    return state.replace(opt_state=optax.tree.set(state.opt_state, lambda _, old: jnp.ndim(old) == 0, **values))


def set_mask(state: UnlearnState, mask: ArrayTree) -> UnlearnState:
    """The state, whose optimizer is one of ``MASKED``, with only what is true in ``mask`` free to move."""
    inner, _ = state.opt_state
    return state.replace(opt_state=(inner, MaskState(mask)))
