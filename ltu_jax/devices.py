"""Many devices: batches are spread over them, and everything else lies on each.

The mesh is the caller's: ``with jax.set_mesh(device_mesh()):``. JAX itself puts on every device of that
mesh, in all processes, what nobody places. Where none is set, as on one device, nothing here does anything.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltu_jax.types import ArrayTree

Made = TypeVar("Made")

BATCH = "batch"
"""The only axis of the mesh."""


def device_mesh() -> Mesh:
    """All devices of all processes in a row."""
    # Explicit axes, the default from jax 0.12 on, would want a sharding written into every model.
    return jax.make_mesh((jax.device_count(),), (BATCH,), axis_types=(AxisType.Auto,))


def num_devices() -> int:
    """Devices that a batch is spread over: 1 where no mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape[BATCH]


def spread(x: jax.Array, axis: int) -> jax.Array:
    """``x`` with one axis spread over the devices; on each of them whole, where the axis does not divide by them.

    Args:
      x: an array, in a traced function or out of one.
      axis: its batch axis.

    Returns:
      The same values.
    """
    return jax.lax.with_sharding_constraint(x, _along(axis)) if _divides(x.shape, axis) else x


def everywhere(tree: ArrayTree) -> ArrayTree:
    """``tree`` whole on every device, so that each process can read it; the same values."""
    return tree if num_devices() == 1 else jax.lax.with_sharding_constraint(tree, PartitionSpec())


def spread_sharding(shape: tuple[int, ...], axis: int) -> NamedSharding | None:
    """How ``read_spread`` spreads an array; None where it does not. For use outside of jit."""
    return NamedSharding(jax.sharding.get_mesh(), _along(axis)) if _divides(shape, axis) else None


def _divides(shape: tuple[int, ...], axis: int) -> bool:
    """Whether there are devices to spread an array over; ``axis`` -1 stands for an array without a batch."""
    count = num_devices()
    return count > 1 and axis >= 0 and shape[axis] % count == 0


def _along(axis: int) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, BATCH)


def read_spread(
    shape: tuple[int, ...], axis: int, sharding: NamedSharding | None, read: Callable[[slice], np.ndarray]
) -> jax.Array:
    """An array spread along ``axis``, of which this process reads only what its own devices hold.

    Args:
      shape: its shape.
      axis: its batch axis.
      sharding: what ``spread_sharding`` said; the mesh is that of a thread, and other threads may read.
      read: ``read(slice of that axis)`` gives that part.

    Returns:
      The array; read whole, where it is not spread.
    """
    if sharding is None:
        return jnp.asarray(read(slice(None)))

    def share(index: Any) -> np.ndarray:
        return read(index[axis])

    return jax.make_array_from_callback(shape, sharding, share)


def writes_files() -> bool:
    """Whether this is the process that writes: the first of all."""
    return jax.process_index() == 0


def agreed(ask: Callable[[], int]) -> int:
    """What the first process answers, in all of them: for what decides which programs run next.

    The others do not ask: a file system may remember that a file was not there.
    """
    if jax.process_count() == 1:
        return ask()
    return int(multihost_utils.broadcast_one_to_all(np.int32(ask() if writes_files() else 0)))


def largest(number: int) -> int:
    """The largest of the numbers that the processes ask with, in all of them."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def first_alone(make: Callable[[], Made]) -> Made:
    """``make()`` in the first process, and once it is done there in all others: they find what it wrote."""
    made = make() if writes_files() else None
    agreed(lambda: True)
    return make() if made is None else made
