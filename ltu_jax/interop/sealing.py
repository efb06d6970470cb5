"""What was written, by its hashes: of the leaves of a tree, of a file, of a folder that names all its own files."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.files import write_whole
from ltu_jax.safe_reading import memory, read_json
from ltu_jax.setting import digest
from ltu_jax.types import ArrayTree

SEAL = "files.json"
"""Names every file of a finished checkpoint of ours with its hash: Orbax does not notice a flipped byte."""


def tree_sha256(tree: ArrayTree) -> str:
    """Hash over path, dtype, shape and bytes of every leaf; PRNG keys count by their data."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaf = np.asarray(leaf)
        hashed.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode())
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()


def check_fits(described: Any) -> None:
    """Refuses a tree that is said to be larger than the memory of this machine: Orbax makes up what is missing.

    Args:
      described: pytree; what has ``shape`` and ``dtype`` is an array.

    Raises:
      ValueError: if it does not fit.
    """
    claimed = sum(map(_claimed_bytes, jax.tree.leaves(described)))
    if claimed > memory():
        raise ValueError(f"its arrays are said to have {claimed} bytes")


def _claimed_bytes(leaf: Any) -> int:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    return 0 if shape is None or dtype is None else math.prod(shape) * jnp.dtype(dtype).itemsize


def file_sha256(path: Path) -> str:
    """Hash of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, is_part: Callable[[Path], bool] = lambda path: True) -> dict[str, str]:
    """Hash of every file below a folder that is a part of it, by path with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_part(path))
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def seal(folder: Path) -> None:
    """Writes down the hash of every file of a folder; what has no such file was not written to its end."""
    files = files_sha256(folder, _is_sealed)
    write_whole(folder / SEAL, json.dumps({"files": files, "sha256": digest(files)}))


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that ``seal`` has sealed, in a few words; None where it is as it was."""
    try:
        told = read_json(folder / SEAL)
        files = told["files"]
    except FileNotFoundError:
        return f"{SEAL} is missing: it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{SEAL} cannot be read"
    if not isinstance(files, dict) or told != {"files": files, "sha256": digest(files)}:
        return f"{SEAL} was altered"
    now = files_sha256(folder, _is_sealed)
    wrong = [name for name in sorted({*files, *now}) if files.get(name) != now.get(name)]
    return f"{wrong[0]} {'is missing' if wrong[0] not in now else 'was altered'}" if wrong else None


def _is_sealed(path: Path) -> bool:
    return path.name not in (SEAL, f"{SEAL}.partial")
