"""K frozen attackers as one tree; a traced index selects one of them."""

import functools
from collections.abc import Sequence

import flax.struct
import jax
from flax import linen as nn

from ltu_jax.attackers.networks import find_network
from ltu_jax.types import ArrayTree


@flax.struct.dataclass
class Bank:
    """Frozen attackers: their parameters, and which networks they belong to."""

    params: dict[str, ArrayTree]  # by name, in the order of names
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)


def init_bank(key: jax.Array, names: Sequence[str], num_classes: int) -> Bank:
    """Untrained attackers: the named networks, see ``find_network``, for logits of ``num_classes``."""
    keys = jax.random.split(key, len(names))
    params = {name: _init(find_network(name), num_classes, k) for name, k in zip(names, keys, strict=True)}
    return Bank(params, tuple(names))


@functools.partial(jax.jit, static_argnums=(0, 1))  # without jit, every operation would be compiled by itself
def _init(network: nn.Module, num_classes: int, key: jax.Array) -> ArrayTree:
    return network.init(key, jax.numpy.zeros((2, num_classes)), jax.numpy.zeros(2, jax.numpy.int32))


def membership(bank: Bank, attacker: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The answers of one attacker to a batch of predictions: theta_A of Eq. 11.

    ``lax.switch`` keeps the choice inside one compiled step. A choice on the host would compile a step for
    each of the K(K-1) pairs.

    Args:
      bank: the attackers.
      attacker: its index, i32[] in 0..K-1.
      logits: f32[B, C].
      labels: true labels, i32[B].

    Returns:
      f32[B], positive where the answer is *member*.
    """
    branches = [functools.partial(find_network(name).apply, bank.params[name]) for name in bank.names]
    return jax.lax.switch(attacker, branches, logits, labels)
