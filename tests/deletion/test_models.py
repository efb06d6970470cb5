"""How models are named, and the one that the last request left."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.deletion.ledger import START, Entry, LedgerError, make_salt, salted_sha256
from ltu_jax.deletion.models import last_model, weights_of, weights_sha256
from ltu_jax.training.checkpoint import CheckpointError, save_tree, tree_sha256


def saved(value):
    return {"params": {"w": jnp.full(3, value)}, "model_state": {"batch_stats": {"mean": jnp.zeros(2)}}}


def entry(number, value):
    return Entry(number, "2026-01-01", ("a",), "b" * 64, tree_sha256(saved(value)), START)


def test_a_model_has_one_name_as_it_is_saved_and_as_it_is_used():
    weights = weights_of(saved(1.0))
    assert set(weights) == {"params", "batch_stats"} and weights_sha256(weights) == tree_sha256(saved(1.0))
    assert weights_sha256(weights_of(saved(2.0))) != weights_sha256(weights)
    assert set(weights) == {"params", "batch_stats"}  # asking for the name takes nothing away


def test_the_last_model_is_that_of_the_last_line(tmp_path):
    for number, value in ((1, 1.0), (2, 2.0)):
        save_tree(tmp_path / f"request-{number}" / "model", saved(value), {})
    salt, first, second = make_salt(tmp_path), entry(1, 1.0), entry(2, 2.0)
    entries = [first, second._replace(model_sha256=salted_sha256(salt, second.model_sha256))]  # the first is older
    np.testing.assert_array_equal(last_model(tmp_path, entries)["params"]["w"], np.full(3, 2.0))
    np.testing.assert_array_equal(last_model(tmp_path, entries[:1])["params"]["w"], np.ones(3))
    with pytest.raises(LedgerError, match="request-2/model is not the model that request 2 left"):
        last_model(tmp_path, [entries[0], entry(2, 1.0)])
    with pytest.raises(CheckpointError, match="request-3/model is not there"):
        last_model(tmp_path, [*entries, entry(3, 1.0)])
    (tmp_path / "salt").unlink()
    with pytest.raises(LedgerError, match="salt is missing"):
        last_model(tmp_path, entries)
