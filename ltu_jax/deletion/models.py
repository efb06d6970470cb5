"""The models of a folder of requests: how they are named by a hash, and the one that the last request left."""

from collections.abc import Sequence
from pathlib import Path

from ltu_jax.deletion.ledger import Entry, LedgerError
from ltu_jax.training.checkpoint import load, tree_sha256
from ltu_jax.types import ArrayTree


def weights_sha256(weights: ArrayTree) -> str:
    """Hash of ``{"params": ..., **model_state}``, as receipts name a model."""
    rest = dict(weights)
    return tree_sha256({"params": rest.pop("params"), "model_state": rest})


def weights_of(saved: ArrayTree) -> ArrayTree:
    """``{"params": ..., **model_state}`` of a model as it is saved."""
    return {"params": saved["params"], **saved["model_state"]}


def last_model(home: Path, entries: Sequence[Entry]) -> ArrayTree:
    """The weights that the last request left, ``{"params": ..., **model_state}``.

    Raises:
      LedgerError: if they are not those of the ledger.
      CheckpointError: if they are damaged.
    """
    path = home / f"request-{entries[-1].number}" / "model"
    weights = weights_of(load(path)[0])
    if weights_sha256(weights) != entries[-1].model_sha256:
        raise LedgerError(f"{path} is not the model that request {entries[-1].number} left")
    return weights
