"""Checkpoints by Orbax, each with a checksum over its leaves: Orbax does not notice flipped bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ltu_jax.interop.orbax_folder import tree_sha256
from ltu_jax.types import ArrayTree

KEPT = 2


class CheckpointError(RuntimeError):
    """A checkpoint that is damaged, told in one line."""


def save(path: Path, tree: ArrayTree, metadata: dict[str, Any]) -> None:
    """Writes a tree of nested dicts of JAX arrays and JSON-ready metadata; the folder appears whole or not at all."""
    ocp = _orbax()
    ocp.save(path.absolute(), tree, overwrite=True, custom_metadata={**metadata, "tree_sha256": tree_sha256(tree)})


def load(path: Path) -> tuple[ArrayTree, dict[str, Any]]:
    """What ``save`` wrote.

    Raises:
      CheckpointError: if it is damaged.
    """
    ocp = _orbax()
    here = jnp.zeros(()).sharding  # onto the devices there are now, not those that wrote it
    try:
        described = ocp.metadata(path.absolute())
        template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), described.metadata)
        tree, metadata = ocp.load(path.absolute(), template), dict(described.custom_metadata or {})
    except Exception as error:  # Orbax raises a dozen types for a missing or truncated file
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)}); delete it to make it anew") from error
    return _verified(path, tree, metadata), metadata


class StepCheckpoints:
    """The resumable checkpoints of one run, newest ``KEPT`` kept; made by ``open_checkpoints``."""

    def __init__(self, checkpointer: Any, directory: Path) -> None:
        self._checkpointer, self._directory = checkpointer, directory

    def latest_step(self) -> int | None:
        """The newest step saved, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def metadata(self, step: int) -> dict[str, Any]:
        """What was saved beside the tree of ``step``."""
        try:
            return dict(self._checkpointer.metadata(step).custom_metadata or {})
        except Exception as error:  # Orbax raises a dozen types for a missing or truncated file
            raise self._unreadable(step, error) from error

    def save(self, step: int, tree: ArrayTree, metadata: dict[str, Any]) -> None:
        """Saves ``tree`` as of ``step`` and waits until it is on disk."""
        # `tree` may be donated by the very next step, so nothing is left to a background thread.
        self._checkpointer.save(step, tree, custom_metadata={**metadata, "tree_sha256": tree_sha256(tree)})

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


@contextmanager
def open_checkpoints(directory: Path) -> Iterator[StepCheckpoints]:
    """The step checkpoints under ``directory``, which is made if needed."""
    ocp = _orbax()
    policy = ocp.training.preservation_policies.LatestN(KEPT)
    every = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    with ocp.training.Checkpointer(
        directory.absolute(), preservation_policy=policy, save_decision_policy=every
    ) as checkpointer:
        yield StepCheckpoints(checkpointer, directory)


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
