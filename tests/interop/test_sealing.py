"""A folder that names its files with their hashes: what is changed is found and named."""

import json

import pytest

from ltu_jax.files import file_sha256
from ltu_jax.interop.sealing import find_damage, seal


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "in" / "a").write_bytes(b"abd"), "in/a was altered"),
        (lambda folder: (folder / "empty").unlink(), "empty is missing"),
        (lambda folder: (folder / "more").write_bytes(b""), "more was altered"),
        (lambda folder: (folder / "files.json").unlink(), "files.json is missing: it was not written to its end"),
        (lambda folder: (folder / "files.json").write_text("{"), "files.json cannot be read"),
        (lambda folder: (folder / "files.json").write_text("[]"), "files.json cannot be read"),
    ],
)
def test_harm_is_named(folder, harm, message):
    seal(folder)
    assert find_damage(folder) is None and not list(folder.glob("*.partial"))
    harm(folder)
    assert find_damage(folder) == message


def test_a_seal_that_was_changed_with_a_file_is_found_by_its_own_hash(folder):
    seal(folder)
    sealed = json.loads((folder / "files.json").read_text())
    (folder / "in" / "a").write_bytes(b"abd")
    sealed["files"]["in/a"] = file_sha256(folder / "in" / "a")
    (folder / "files.json").write_text(json.dumps(sealed))
    assert find_damage(folder) == "files.json was altered"
    seal(folder)
    assert find_damage(folder) is None
