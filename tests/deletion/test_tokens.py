"""Tokens of forgotten images: each shows its own and nothing of others; a receipt confirms no guess."""

import hashlib
import hmac
import json
import stat

import numpy as np
import pytest
from PIL import Image

from ltu_jax.config import Data
from ltu_jax.data.sources import load_source
from ltu_jax.deletion import ledger, tokens
from ltu_jax.setting import ConfigError

SALT = b"s" * 32


def by_hand(name, image, salt=SALT):
    """As docs/receipts.md tells it."""
    nonce = hmac.new(salt, f"token\n{name}".encode(), hashlib.sha256).hexdigest()
    return hashlib.sha256(json.dumps(["ltu_jax token 1", name, image, nonce]).encode()).hexdigest(), nonce


@pytest.fixture
def photos(tmp_path):
    """A folder of images of two classes, and what is read of it."""
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    for name in ("train/cat/1.png", "train/dog/ö 2.png", "test/cat/3.png", "test/dog/4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8)).save(folder / name)
    data = Data("folder", data_dir=str(folder))
    return folder, data, load_source(data)


def test_images_are_told_by_their_files_where_there_are_files_else_by_their_pixels(photos):
    folder, data, source = photos
    names = ["train/cat/1.png", "train/dog/ö 2.png"]
    files = {name: f"file {hashlib.sha256((folder / name).read_bytes()).hexdigest()}" for name in names}
    assert tokens.hashed_images([*names, "gone"], source, data) == files
    rows = {name: np.asarray(Image.open(folder / name)) for name in names}
    pixels = {name: f"pixels 5x4 {hashlib.sha256(rows[name].tobytes()).hexdigest()}" for name in names}
    assert tokens.hashed_images([*names, "gone"], source, None) == pixels
    found = tokens.commitments(SALT, files)
    assert found == sorted(by_hand(name, files[name])[0] for name in names)


def test_commitments_cannot_be_made_without_the_salt_nor_exchanged(photos):
    _, data, source = photos
    images = tokens.hashed_images(["train/cat/1.png", "train/dog/ö 2.png"], source, data)
    told = "".join(tokens.commitments(SALT, images))
    for name, image in images.items():
        for other in (b"", b"t" * 32, name.encode()):
            assert by_hand(name, image, other)[0] not in told
        [guessed] = ledger.salted(SALT, [name])  # of the ledger: another secret
        assert hashlib.sha256(json.dumps(["ltu_jax token 1", name, image, guessed]).encode()).hexdigest() not in told
    nonces = {tokens.nonce_of(SALT, name) for name in images}
    assert len(nonces) == 2 and not nonces & {*ledger.salted(SALT, images), SALT.hex()}


def test_tokens_are_files_of_their_owner_only(photos, tmp_path):
    _, data, source = photos
    images = tokens.hashed_images(["train/cat/1.png", "train/dog/ö 2.png"], source, data)
    told = tokens.commitments(SALT, images)
    long = "x/" * 300
    assert tokens.write_tokens(tmp_path / "to/hand", 3, told, SALT, images | {long: None}) == 1
    written = [path for path in (tmp_path / "to/hand").iterdir()]
    assert len(written) == 3 and {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert stat.S_IMODE((tmp_path / "to/hand").stat().st_mode) == 0o700
    found = {token["id"]: token for token in (json.loads(path.read_text()) for path in written)}
    assert found["train/cat/1.png"] == {
        **{"token": "ltu_jax token 1", "request": 3, "id": "train/cat/1.png", "image": images["train/cat/1.png"]},
        "nonce": by_hand("train/cat/1.png", "")[1],
    }
    assert found[long]["image"] is None
    other = images | {"train/cat/1.png": "file " + "0" * 64}  # the file was changed since
    assert tokens.write_tokens(tmp_path / "again", 3, told, SALT, other) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--tokens: .*file.* cannot be made .*; allowed: a folder"):
        tokens.write_tokens(tmp_path / "file", 3, told, SALT, images)


def test_commitments_to_other_images_than_those_forgotten_are_found(photos):
    folder, data, source = photos
    names = ["train/cat/1.png", "train/dog/ö 2.png"]
    images = tokens.hashed_images(names, source, data)
    forgotten = ledger.salted(SALT, names)
    [finding] = ["tokens: they are not those of the images forgotten, or these are others now"]
    assert tokens.token_problems(tokens.commitments(SALT, images), forgotten, SALT, source, data) == []
    assert tokens.token_problems(None, forgotten, SALT, source, data) == []  # of an older version
    for told in ([], tokens.commitments(SALT, images)[:1], tokens.commitments(b"t" * 32, images)):
        assert tokens.token_problems(told, forgotten, SALT, source, data) == [finding]
    others = tokens.hashed_images(["test/cat/3.png", "test/dog/4.png"], source, data)
    assert tokens.token_problems(tokens.commitments(SALT, others), forgotten, SALT, source, data) == [finding]
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(folder / names[0])
    assert tokens.token_problems(tokens.commitments(SALT, images), forgotten, SALT, source, data) == [finding]
