"""Checkpoints by Orbax, each with a checksum over its leaves and its files: Orbax does not notice flipped bytes."""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ltu_jax.devices import agreed, writes_files
from ltu_jax.files import check_folder, make_folder, partial_of, remove_partials, room, sync, sync_tree
from ltu_jax.interop import orbax_folder
from ltu_jax.interop.sealing import check_fits, find_damage, seal, tree_sha256
from ltu_jax.types import ArrayTree

KEPT = 2
SMALL_BYTES = 100_000
"""About what is written around the arrays of a checkpoint."""


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged; the message is one line."""


def save_tree(path: Path, tree: ArrayTree, metadata: dict[str, Any]) -> None:
    """Writes a tree of nested dicts of JAX arrays and JSON-ready metadata; the folder appears whole or not at all.

    Into the metadata come ``arrays``, the dtype and shape of each, and ``tree_sha256``. What is at ``path`` is
    replaced, but for what another process has put there meanwhile: of one tree that two make, the first stays.

    Raises:
      ConfigError: if Orbax cannot find it again at this path.
      DiskFullError: if it does not fit.
    """
    check_folder(path, "path")
    partial, is_new = partial_of(path, agreed(lambda: secrets.randbits(31))), not path.exists()
    arrays = jax.tree.map(lambda leaf: [str(leaf.dtype), list(leaf.shape)], tree)
    metadata = {**metadata, "arrays": arrays, "tree_sha256": tree_sha256(tree)}
    try:
        with _room(path.parent, tree):
            _orbax().save(partial.absolute(), tree, overwrite=True, custom_metadata=metadata)
            if writes_files():
                sync_tree(partial)
                seal(partial)
                _put(partial, path, is_new)
    except BaseException:
        remove_partials(partial.parent, partial.name)
        raise
    agreed(lambda: True)  # the others may read it from here on


def _put(partial: Path, path: Path, is_new: bool) -> None:
    """Moves a whole folder to where it belongs, and flushes that; what is there gives way, unless it ``is_new``."""
    old = partial_of(path)
    try:
        if not is_new:
            os.rename(path, old)
        os.rename(partial, path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)  # without locks two processes may make the same
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_tree(path: Path) -> tuple[ArrayTree, dict[str, Any]]:
    """What ``save_tree`` wrote.

    Raises:
      CheckpointError: if it is damaged.
      ConfigError: if it is whole, but Orbax cannot find it at this path.
    """
    ocp = _orbax()
    here = jnp.zeros(()).sharding  # not that of the devices that wrote it
    if not path.is_dir():
        raise CheckpointError(f"{path} is not there")
    if why := find_damage(path):
        raise CheckpointError(f"{path} is damaged: {why}; delete it to make it anew")
    try:
        metadata = orbax_folder.folder_metadata(path)["custom_metadata"]
        template = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), _arrays(path, metadata)
        )
        check_fits(template)
        tree = ocp.load(path.absolute(), template)
    except Exception as error:  # Orbax raises a dozen types for what it cannot read
        check_folder(path, "path")  # what is whole may have been moved to where Orbax does not find it
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)}); delete it to make it anew") from error
    return _verified(path, tree, metadata), metadata


class StepCheckpoints:
    """The checkpoints of one run, of which the newest ``KEPT`` are kept; made by ``open_checkpoints``."""

    def __init__(self, checkpointer: Any, directory: Path) -> None:
        self._checkpointer, self._directory = checkpointer, directory

    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def metadata(self, step: int) -> dict[str, Any]:
        """What was saved beside the tree of ``step``."""
        try:
            return step_metadata(self._directory, step)
        except Exception as error:  # Orbax raises a dozen types for a missing or truncated file
            raise self._unreadable(step, error) from error

    def save(self, step: int, tree: ArrayTree, metadata: dict[str, Any]) -> None:
        """Saves ``tree`` as of ``step`` and waits until it is on disk.

        Raises:
          DiskFullError: if it does not fit; the steps before are intact.
        """
        # `tree` may be donated by the very next step, so nothing is left to a background thread.
        with _room(self._directory, tree):
            self._checkpointer.save(step, tree, custom_metadata={**metadata, "tree_sha256": tree_sha256(tree)})
            if writes_files():
                sync_tree(self._directory / str(step))
                seal(self._directory / str(step))
                sync(self._directory)

    def load(self, step: int, template: ArrayTree) -> tuple[ArrayTree, dict[str, Any]]:
        """The tree of ``step``, in the structure of ``template``.

        Raises:
          CheckpointError: if it is damaged.
        """
        metadata = self.metadata(step)
        try:
            tree = self._checkpointer.load(step, template)
        except Exception as error:
            raise self._unreadable(step, error) from error
        return _verified(self._directory / str(step), tree, metadata), metadata

    def _unreadable(self, step: int, error: Exception) -> CheckpointError:
        where = self._directory / str(step)
        return CheckpointError(f"{where} cannot be read ({_first_line(error)}); delete it to go on without it")


def saved_steps(directory: Path) -> list[int]:
    """The steps of the checkpoints under ``directory``, in order; damaged ones are named and dropped first."""
    steps = sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit()) if directory.is_dir() else []
    for path in (directory / str(step) for step in steps) if writes_files() else ():
        if why := find_damage(path):
            logging.getLogger(__name__).warning("%s is damaged (%s): going on without it", path, why)
            shutil.rmtree(path)
    agreed(lambda: True)
    return [step for step in steps if (directory / str(step)).is_dir()]


def step_metadata(directory: Path, step: int) -> dict[str, Any]:
    """What was saved beside the tree of ``step``."""
    return orbax_folder.folder_metadata(directory / str(step))["custom_metadata"]


@contextlib.contextmanager
def open_checkpoints(directory: Path, last: int | None = None) -> Iterator[StepCheckpoints]:
    """The step checkpoints under ``directory``, which is made if needed, but for damaged ones.

    Args:
      directory: their folder.
      last: checkpoints of later steps are deleted; None keeps them.

    Yields:
      ``StepCheckpoints``.

    Raises:
      ConfigError: if Orbax cannot find them again at this path.
    """
    check_folder(directory, "directory")
    ocp = _orbax()
    later = [step for step in saved_steps(directory) if last is not None and step > last]
    for step in later if writes_files() else ():
        shutil.rmtree(directory / str(step))
    if writes_files():
        make_folder(directory)
    agreed(lambda: True)
    policy = ocp.training.preservation_policies.LatestN(KEPT)
    every = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    with ocp.training.Checkpointer(
        directory.absolute(), preservation_policy=policy, save_decision_policy=every
    ) as checkpointer:
        yield StepCheckpoints(checkpointer, directory)


def _arrays(path: Path, metadata: dict[str, Any]) -> ArrayTree:
    """Shape and dtype of each array, as ``save_tree`` wrote them.

    For older checkpoints Orbax is asked: it opens every array, and TensorStore leaks some memory at each.
    """
    if "arrays" not in metadata:
        return _orbax().metadata(path.absolute()).metadata
    is_leaf = lambda x: isinstance(x, list)  # noqa: E731
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x[1], x[0]), metadata["arrays"], is_leaf=is_leaf)


def _room(folder: Path, tree: ArrayTree) -> Any:
    """Room for a tree, in the process that writes it."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return room(folder, size + size // 10 + SMALL_BYTES) if writes_files() else contextlib.nullcontext()


def _orbax() -> Any:
    """Orbax, imported when something is saved or loaded: it takes a second."""
    from orbax.checkpoint import v1

    return v1


def _verified(path: Path, tree: ArrayTree, metadata: dict[str, Any]) -> ArrayTree:
    if metadata.get("tree_sha256") != tree_sha256(tree):
        raise CheckpointError(f"{path} is damaged: its contents do not match its checksum; delete it to make it anew")
    return tree


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
