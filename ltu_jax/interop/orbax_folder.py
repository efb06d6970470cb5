"""Reads and rewrites a folder that Orbax wrote, by whichever of its calls; Orbax runs nothing that is in it.

A tree of arrays lies where its ``_METADATA`` is: in the folder itself (StandardCheckpointer, PyTreeCheckpointer), or
one below it, under a name (``orbax.checkpoint.v1``, a step of CheckpointManager). What lies around it says how it is
to be read. A folder is rewritten by saving the tree anew where it was and copying what lies around it: to write over
single arrays would leave the old ones in the files, which Orbax only ever appends to.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.interop.sealing import SEAL, check_fits, seal, tree_sha256
from ltu_jax.setting import ConfigError
from ltu_jax.types import ArrayTree

_TREE, _ABOUT = "_METADATA", "_CHECKPOINT_METADATA"
_AROUND = (_ABOUT, "orbax.checkpoint", "commit_success.txt", SEAL)
"""Files that are no part of a tree, where the tree lies in the folder itself."""


class Opened(NamedTuple):
    """A folder as it was found."""

    room: Path  # where the tree lies: the folder, or a folder in it
    tree: ArrayTree  # arrays of the types that were saved, numbers and strings
    handler: Any  # that saves such a tree in the same format


def read(path: Path, field: str) -> dict[str, np.ndarray]:
    """The arrays of a tree, by name: ``params.conv1.kernel``.

    Args:
      path: the folder.
      field: the setting, for messages.

    Returns:
      Arrays of the types that were saved, which can be written to; no single numbers, strings or random keys.

    Raises:
      ConfigError: if it holds no tree or several, cannot be read, or is not what its checksum says (ours has one).
    """
    named = jax.tree_util.tree_leaves_with_path(_opened(path, field).tree)
    return {_name(where): np.array(leaf) for where, leaf in named if _is_array(leaf)}


def rewrite(path: Path, target: Path, tensors: Mapping[str, np.ndarray], field: str) -> None:
    """Writes the folder at ``path`` anew to ``target``, with other numbers in the arrays named.

    Args:
      path: a folder that ``read`` has read.
      target: the folder to be written; what was there is lost.
      tensors: by name; shapes and types as ``read`` gave them.
      field: the setting, for messages.
    """
    from etils import epath

    room, tree, handler = _opened(path, field)

    def new(where: Any, leaf: Any) -> Any:
        if _name(where) not in tensors:
            return leaf
        value = tensors[_name(where)]
        return jnp.asarray(value) if isinstance(leaf, jax.Array) else value

    tree = jax.tree_util.tree_map_with_path(new, tree)
    if target.exists():
        shutil.rmtree(target)
    in_tree = lambda folder, names: [n for n in names if Path(folder) == room and n not in _AROUND]  # noqa: E731
    shutil.copytree(path, target, ignore=in_tree)
    kept = about(path)
    if "tree_sha256" in (kept.get("custom_metadata") or {}):
        kept["custom_metadata"]["tree_sha256"] = tree_sha256(tree)
        (target / _ABOUT).write_text(json.dumps(kept))
    where = epath.Path((target / room.relative_to(path)).absolute())
    handler.save(where, args=_orbax().args.PyTreeSave(tree))
    handler.finalize(where)
    if (target / SEAL).exists():
        seal(target)


def _opened(path: Path, field: str) -> Opened:
    room = _room(path, field)
    try:
        described = json.loads((room / _TREE).read_text())
        # A handler, not a checkpointer: that one waits for the other processes, and only the first of them writes.
        ocp = _orbax()
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=described["use_ocdbt"], use_zarr3=described["use_zarr3"])
        saved = handler.metadata(room.absolute()).tree
        check_fits(saved)
        wanted = jax.tree.map(_restored_as, saved)
        tree = handler.restore(room.absolute(), args=ocp.args.PyTreeRestore(restore_args=wanted))
        checksum = (about(path).get("custom_metadata") or {}).get("tree_sha256")
    except Exception as error:  # Orbax raises a dozen types for a missing or truncated file
        why = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"{field}: {str(path)!r} cannot be read ({type(error).__name__}: {''.join(why)[:160]});"
            " allowed: a whole folder by Orbax"
        ) from error
    if checksum is not None and checksum != tree_sha256(tree):
        raise ConfigError(f"{field}: {str(path)!r} does not match its checksum; allowed: a whole WORKDIR/model")
    return Opened(room, tree, handler)


def _room(path: Path, field: str) -> Path:
    """Where the tree lies; nothing else that may hold arrays lies beside it."""
    if path.name in ("", ".."):
        raise ConfigError(f"{field}: {str(path)!r} has no name to write back to; allowed: a folder by its name")
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise ConfigError(f"{field}: {str(path)!r} cannot be read ({error.strerror}); allowed: a folder") from error
    rooms = [folder for folder in (path, *inside) if (folder / _TREE).is_file()]
    if len(rooms) != 1:
        names = " (" + ", ".join(room.name for room in rooms) + ")" if rooms else ""
        raise ConfigError(
            f"{field}: {str(path)!r} holds {len(rooms) or 'no'} trees by Orbax{names}; allowed: one, as"
            " StandardCheckpointer().save(FOLDER, tree) leaves it, or a step's folder of CheckpointManager"
        )
    [room] = rooms
    others = [item for item in inside if item.is_dir() and item != room] if room != path else []
    # What is not rewritten would still know the forgotten; metrics and the like are JSON.
    if strange := [item.name for item in others if not all(_is_json(file) for file in item.rglob("*"))]:
        raise ConfigError(f"{field}: {str(path)!r} holds {strange[0]!r} beside the weights; allowed: JSON beside them")
    return room


def _is_json(file: Path) -> bool:
    """Or holds none, as folders and the mark of a folder that was written whole."""
    try:
        return file.is_dir() or file.name in _AROUND or json.loads(file.read_text()) is not None
    except (OSError, ValueError, RecursionError):
        return False


def about(path: Path) -> dict[str, Any]:
    """What Orbax keeps of a folder as a whole, ``custom_metadata`` among it."""
    return json.loads((path / _ABOUT).read_text()) if (path / _ABOUT).is_file() else {}


def _restored_as(described: Any) -> Any:
    """As it was saved: JAX arrays, which random keys are too, on a device there is now, NumPy arrays, numbers."""
    ocp = _orbax()
    if getattr(described, "sharding", None) is None:
        return ocp.RestoreArgs()
    # JAX would halve what is wider than it is set to, and Orbax saves no array that is one process' own.
    if jax.dtypes.canonicalize_dtype(described.dtype) != described.dtype or jax.process_count() > 1:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]))


def _is_array(leaf: Any) -> bool:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return isinstance(leaf, (jax.Array, np.ndarray)) and not is_key


def _name(where: Any) -> str:
    return jax.tree_util.keystr(where, simple=True, separator=".")


def _orbax() -> Any:
    """Orbax, imported when something is read: it takes a second."""
    import orbax.checkpoint

    return orbax.checkpoint
