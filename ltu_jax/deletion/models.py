"""The models of a folder of requests: their hash, and the model of the last request."""

from collections.abc import Sequence
from pathlib import Path

from ltu_jax.deletion.ledger import SALT, Entry, LedgerError, is_hash_of, read_salt
from ltu_jax.training.checkpoint import load_tree, tree_sha256
from ltu_jax.types import ArrayTree


def weights_sha256(weights: ArrayTree) -> str:
    """Hash of ``{"params": ..., **model_state}``: the name of a model in receipts."""
    rest = dict(weights)
    return tree_sha256({"params": rest.pop("params"), "model_state": rest})


def weights_of(saved: ArrayTree) -> ArrayTree:
    """Converts a saved model to ``{"params": ..., **model_state}``."""
    return {"params": saved["params"], **saved["model_state"]}


def last_model(home: Path, entries: Sequence[Entry]) -> ArrayTree:
    """The weights of the last request, ``{"params": ..., **model_state}``.

    Raises:
      LedgerError: if their hash is not that in the ledger, or there is no salt to compare it under.
      CheckpointError: if they are damaged.
    """
    path, salt = home / f"request-{entries[-1].number}" / "model", read_salt(home)
    if salt is None:
        raise LedgerError(f"{home / SALT} is missing: without it no model is recognised")
    weights = weights_of(load_tree(path)[0])
    if not is_hash_of(entries[-1].model_sha256, weights_sha256(weights), salt):
        raise LedgerError(f"{path} is not the model that request {entries[-1].number} left")
    return weights
