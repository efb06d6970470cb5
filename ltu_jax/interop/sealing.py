"""Hashes of trees, and a list of hashes that seals a folder against damage."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.files import files_sha256, is_partial, write_whole
from ltu_jax.safe_reading import memory, read_json
from ltu_jax.setting import digest
from ltu_jax.types import ArrayTree

SEAL = "files.json"
"""Lists the hash of every file of a finished checkpoint: Orbax does not notice a flipped byte."""


def tree_sha256(tree: ArrayTree) -> str:
    """Hash over path, dtype, shape and bytes of every leaf; of the data of PRNG keys."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaf = np.asarray(leaf)
        hashed.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode())
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()


def check_fits(described: Any) -> None:
    """Refuses a tree that claims to be larger than the memory: Orbax would allocate it even if its files are missing.

    Args:
      described: pytree; its arrays are the leaves with ``shape`` and ``dtype``.

    Raises:
      ValueError: if it does not fit.
    """
    arrays = [(getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) for leaf in jax.tree.leaves(described)]
    sizes = [math.prod(s) * jnp.dtype(d).itemsize for s, d in arrays if s is not None and d is not None]
    claimed = sum(sizes)
    if claimed > memory():
        raise ValueError(f"its arrays are said to have {claimed} bytes")


def seal(folder: Path) -> None:
    """Writes ``SEAL`` as the last file of a folder; a folder without it is incomplete.

    It does not flush the other files to the disk: ``files.sync_tree`` does.
    """
    files = files_sha256(folder, _is_sealed)
    write_whole(folder / SEAL, json.dumps({"files": files, "sha256": digest(files)}))


def find_damage(folder: Path) -> str | None:
    """What is wrong with a folder that ``seal`` has sealed, in a few words; None if nothing is."""
    try:
        sealed = read_json(folder / SEAL)
        files = sealed["files"]
    except FileNotFoundError:
        return f"{SEAL} is missing: it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{SEAL} cannot be read"
    if not isinstance(files, dict) or sealed != {"files": files, "sha256": digest(files)}:
        return f"{SEAL} was altered"
    now = files_sha256(folder, _is_sealed)
    wrong = [name for name in sorted({*files, *now}) if files.get(name) != now.get(name)]
    return f"{wrong[0]} {'is missing' if wrong[0] not in now else 'was altered'}" if wrong else None


def _is_sealed(path: Path) -> bool:
    return path.name != SEAL and not is_partial(path)
