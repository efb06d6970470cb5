"""Several devices and processes: batches are sharded over the devices, everything else is replicated.

The caller sets the mesh: ``with jax.set_mesh(device_mesh()):``. JAX then replicates all arrays without a sharding on
every device of the mesh. Without a mesh, as on one device, nothing here has an effect.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltu_jax.types import ArrayTree

Made = TypeVar("Made")

BATCH = "batch"
"""The only axis of the mesh."""


def device_mesh() -> Mesh:
    """All devices of all processes along one axis."""
    # Explicit axes, the default from jax 0.12 on, would require shardings in every model.
    return jax.make_mesh((jax.device_count(),), (BATCH,), axis_types=(AxisType.Auto,))


def num_devices() -> int:
    """The number of devices that a batch is sharded over; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape[BATCH]


def shard(x: jax.Array, axis: int) -> jax.Array:
    """``x`` with its batch axis sharded over the devices; unchanged if the axis is not divisible by their number."""
    return jax.lax.with_sharding_constraint(x, _along(axis)) if _divides(x.shape, axis) else x


def replicate(tree: ArrayTree) -> ArrayTree:
    """``tree`` replicated on every device, so that each process can read all of it."""
    return tree if num_devices() == 1 else jax.lax.with_sharding_constraint(tree, PartitionSpec())


def batch_sharding(shape: tuple[int, ...], axis: int) -> NamedSharding | None:
    """The sharding of an array along its batch axis; None if it cannot be sharded. For use outside of jit."""
    return NamedSharding(jax.sharding.get_mesh(), _along(axis)) if _divides(shape, axis) else None


def _divides(shape: tuple[int, ...], axis: int) -> bool:
    """Whether an array can be sharded along ``axis``; -1 stands for an array without a batch axis."""
    count = num_devices()
    return count > 1 and axis >= 0 and shape[axis] % count == 0


def _along(axis: int) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, BATCH)


def read_sharded(
    shape: tuple[int, ...], axis: int, sharding: NamedSharding | None, read: Callable[[slice], np.ndarray]
) -> jax.Array:
    """An array sharded along ``axis``, of which this process reads only the shards of its own devices.

    Args:
      shape: its shape.
      axis: its batch axis.
      sharding: from ``batch_sharding``, computed beforehand because a mesh is set per thread; None reads all of it.
      read: ``read(slice of that axis)`` returns that part.
    """
    if sharding is None:
        return jax.device_put(read(slice(None)))

    def read_shard(index: Any) -> np.ndarray:
        return read(index[axis])

    return jax.make_array_from_callback(shape, sharding, read_shard)


def writes_files() -> bool:
    """Whether this process writes files: only the first one does."""
    return jax.process_index() == 0


def agreed(ask: Callable[[], int]) -> int:
    """The first process's answer, in all processes: for decisions about the programs to run next.

    The others do not ask, because their file system may have cached that a file is missing.
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
    """Calls ``make()`` in the first process, and then in the others, which find the files it has written."""
    made = make() if writes_files() else None
    agreed(lambda: True)
    return make() if made is None else made
