"""Reads and rewrites a folder that Orbax wrote, with any of its calls. Orbax runs no code from such a folder.

The tree of arrays is in the folder that holds ``_METADATA``: the folder itself (StandardCheckpointer,
PyTreeCheckpointer) or a subfolder (``orbax.checkpoint.v1``, a step of CheckpointManager). Rewriting saves the tree
anew and copies the other files. Overwriting single arrays would leave the old ones in the files, because Orbax only
appends to them.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.files import check_folder
from ltu_jax.interop.sealing import SEAL, check_fits, seal, tree_sha256
from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree

_TREE, FOLDER_METADATA = "_METADATA", "_CHECKPOINT_METADATA"
_NOT_TREE = (FOLDER_METADATA, "orbax.checkpoint", "commit_success.txt", SEAL)
"""Files that may lie beside those of the tree in the same folder."""


class Opened(NamedTuple):
    """What a folder holds."""

    tree_folder: Path  # the folder itself or a subfolder
    tree: ArrayTree  # arrays of the types that were saved, numbers and strings
    handler: Any  # saves such a tree in the same format


def read_arrays(path: Path, field: str) -> dict[str, np.ndarray]:
    """The arrays of a tree, by name: ``params.conv1.kernel``.

    Args:
      path: the folder.
      field: the setting, for messages.

    Returns:
      Writable arrays of the types that were saved, without single numbers, strings and random keys.

    Raises:
      ConfigError: if it holds no tree or several, cannot be read, or does not match its checksum (ours has one).
    """
    named = jax.tree_util.tree_leaves_with_path(_opened(path, field).tree)
    return {_name(where): np.array(leaf) for where, leaf in named if _is_array(leaf)}


def rewrite(path: Path, target: Path, tensors: Mapping[str, np.ndarray], field: str) -> None:
    """Copies the folder at ``path`` to ``target``, with new values for the given arrays.

    Args:
      path: a folder that ``read_arrays`` can read.
      target: the folder to write; its old contents are deleted.
      tensors: new values by name, with the shapes and types of ``read_arrays``.
      field: the setting, for messages.
    """
    from etils import epath

    tree_folder, tree, handler = _opened(path, field)

    def new(where: Any, leaf: Any) -> Any:
        if _name(where) not in tensors:
            return leaf
        value = tensors[_name(where)]
        return jnp.asarray(value) if isinstance(leaf, jax.Array) else value

    tree = jax.tree_util.tree_map_with_path(new, tree)
    if target.exists():
        shutil.rmtree(target)
    in_tree = lambda folder, names: [n for n in names if Path(folder) == tree_folder and n not in _NOT_TREE]  # noqa: E731
    shutil.copytree(path, target, ignore=in_tree)
    metadata = folder_metadata(path)
    if "tree_sha256" in (metadata.get("custom_metadata") or {}):
        metadata["custom_metadata"]["tree_sha256"] = tree_sha256(tree)
        (target / FOLDER_METADATA).write_text(json.dumps(metadata))
    where = epath.Path((target / tree_folder.relative_to(path)).absolute())
    handler.save(where, args=_orbax().args.PyTreeSave(tree))
    handler.finalize(where)
    if (target / SEAL).exists():
        seal(target)


def _opened(path: Path, field: str) -> Opened:
    folder = _tree_folder(path, field)
    try:
        metadata = json.loads((folder / _TREE).read_text())
        # A handler, not a checkpointer: that would wait for the other processes, and only the first one writes.
        ocp = _orbax()
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=metadata["use_ocdbt"], use_zarr3=metadata["use_zarr3"])
        saved = handler.metadata(folder.absolute()).tree
        check_fits(saved)
        restore_args = jax.tree.map(_restore_args, saved)
        tree = handler.restore(folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=restore_args))
        checksum = (folder_metadata(path).get("custom_metadata") or {}).get("tree_sha256")
    except Exception as error:  # Orbax raises a dozen types for a missing or truncated file
        why = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"{field}: {str(path)!r} cannot be read ({type(error).__name__}: {''.join(why)[:160]});"
            " allowed: a whole folder by Orbax"
        ) from error
    if checksum is not None and checksum != tree_sha256(tree):
        raise ConfigError(f"{field}: {str(path)!r} does not match its checksum; allowed: a whole WORKDIR/model")
    return Opened(folder, tree, handler)


def _tree_folder(path: Path, field: str) -> Path:
    """The folder of the only tree; other folders beside it may hold only JSON."""
    check_folder(path, field)
    if path.name in ("", ".."):
        raise ConfigError(f"{field}: {str(path)!r} has no name to write back to; allowed: a folder by its name")
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise ConfigError(f"{field}: {str(path)!r} cannot be read ({error.strerror}); allowed: a folder") from error
    trees = [folder for folder in (path, *inside) if (folder / _TREE).is_file()]
    if len(trees) != 1:
        names = " (" + ", ".join(folder.name for folder in trees) + ")" if trees else ""
        raise ConfigError(
            f"{field}: {str(path)!r} holds {len(trees) or 'no'} trees by Orbax{names}; allowed: one, as"
            " StandardCheckpointer().save(FOLDER, tree) leaves it, or a step's folder of CheckpointManager"
        )
    [tree] = trees
    others = [item for item in inside if item.is_dir() and item != tree] if tree != path else []
    # Arrays that are not rewritten would still contain the forgotten data; metrics and the like are JSON.
    if strange := [item.name for item in others if not all(_is_json(file) for file in item.rglob("*"))]:
        raise ConfigError(f"{field}: {str(path)!r} holds {strange[0]!r} beside the weights; allowed: JSON beside them")
    return tree


def _is_json(file: Path) -> bool:
    """Whether it is JSON, or holds no data: a folder, or Orbax's mark of a complete folder."""
    try:
        return file.is_dir() or file.name in _NOT_TREE or json.loads(file.read_text()) is not None
    except (OSError, ValueError, RecursionError):
        return False


def folder_metadata(path: Path) -> dict[str, Any]:
    """Orbax's metadata of a folder, with our ``custom_metadata``; empty without the file."""
    file = path / FOLDER_METADATA
    return json.loads(file.read_text()) if file.is_file() else {}


def _restore_args(saved: Any) -> Any:
    """Restores a leaf as the type that was saved; JAX arrays and random keys go to a device of this machine."""
    ocp = _orbax()
    if getattr(saved, "sharding", None) is None:
        return ocp.RestoreArgs()
    # JAX would convert float64 to float32, and Orbax cannot save a JAX array that only one process holds.
    if jax.dtypes.canonicalize_dtype(saved.dtype) != saved.dtype or jax.process_count() > 1:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))


def _is_array(leaf: Any) -> bool:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return isinstance(leaf, (jax.Array, np.ndarray)) and not is_key


def _name(where: Any) -> str:
    return jax.tree_util.keystr(where, simple=True, separator=".")


def _orbax() -> Any:
    """Orbax, imported when needed: it takes a second."""
    import orbax.checkpoint

    return orbax.checkpoint
