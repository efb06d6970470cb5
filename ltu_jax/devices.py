"""Several devices and processes: batches are sharded over the devices, everything else is replicated.

The caller sets the mesh: ``with jax.set_mesh(device_mesh()):``. JAX then replicates all arrays without a sharding on
every device of the mesh. Without a mesh, as on one device, nothing here has an effect.
"""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.extend
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltu_jax.types import ArrayTree

Made = TypeVar("Made")

BATCH = "batch"
"""The only axis of the mesh."""

ROUNDING = (
    *("jax_default_matmul_precision", "jax_enable_x64", "jax_threefry_partitionable", "jax_default_prng_impl"),
    *("jax_numpy_dtype_promotion", "jax_disable_jit"),
    *("jax_optimization_level", "jax_exec_time_optimization_effort", "jax_random_seed_offset"),
)
"""JAX's own settings that change the bits of a result."""
VARIABLES = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "NVIDIA_TF32_OVERRIDE", "LIBTPU_INIT_ARGS")
"""Variables that change them too, and are no attribute of ``jax.config``."""
PACKAGES = ("jax", "jaxlib", "flax", "optax")
VECTORS = ("sse", "avx", "amx", "fma", "f16c", "bmi", "neon", "asimd", "sve", "bf16", "i8mm")
"""How the names of instruction sets begin for which XLA compiles otherwise."""


def environment() -> dict[str, Any]:
    """All that the bits of a result depend on beside code, data and settings, JSON-ready.

    Of several processes the cores and processors are left out: each knows only its own.
    """
    backend = jax.default_backend()
    options = {name: getattr(jax.config, name, None) for name in ROUNDING}
    found: dict[str, Any] = {
        "versions": dict(_versions()),
        "backend": backend,
        "runtime": jax.extend.backend.get_backend().platform_version,
        "device": jax.devices()[0].device_kind,
        "devices": [jax.device_count(), num_devices()],  # all, and those that a batch is spread over
        "processes": jax.process_count(),
        "xla_flags": _xla_flags(backend),
        "jax": {name: value if isinstance(value, bool | float) else str(value) for name, value in options.items()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    if backend == "cpu" and jax.process_count() == 1:
        found |= {"cores": num_cores(), "threads": _num_threads(), "processor": _processor()}
    return found


@functools.cache  # each reads files, and every look into a cache asks
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, importlib.metadata.version(name)) for name in PACKAGES)


def num_cores() -> int:
    """The cores that this process may use; programs of the CPU are divided over them, and round accordingly."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _num_threads() -> int:
    """The threads of XLA's CPU client, as its ``DefaultThreadPoolSize`` counts them."""
    for name in ("PJRT_NPROC", "NPROC"):
        try:
            return max(0, int(os.environ[name]))
        except (KeyError, ValueError):
            continue
    return num_cores()


def _xla_flags(backend: str) -> list[str]:
    """``XLA_FLAGS`` in one order, of one that stands there twice the last; on a CPU without those of other devices."""
    last = {word.partition("=")[0]: word for word in os.environ.get("XLA_FLAGS", "").split()}
    others = ("--xla_gpu_", "--xla_tpu_") if backend == "cpu" else ()
    return sorted(word for name, word in last.items() if not name.startswith(others))


@functools.cache
def _processor() -> str:
    """The processor and its instruction sets where Linux tells them, else the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    name = told.get("model name") or f"{told.get('CPU implementer', '')} {told.get('CPU part', '')}".strip()
    sets = (told.get("flags") or told.get("Features", "")).split()
    return " ".join([name or platform.machine(), *sorted(word for word in sets if word.startswith(VECTORS))])


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
