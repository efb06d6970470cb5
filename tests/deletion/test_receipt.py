"""Seal, signature and files of a receipt: what is changed is found."""

import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ltu_jax.deletion import receipt
from ltu_jax.setting import ConfigError

pytestmark = pytest.mark.smoke
BODY = {
    "schema": 1,
    "request": {"number": 1, "count": 2, "repeated": 0, "ids_sha256": "a", "previous": "b"},
    "model": {"before": {"tree_sha256": "c", "file_sha256": None}, "after": {"tree_sha256": "d"}},
    "method": "ltu",
    "evidence": {"rows": {}, "classes": [], "after": {"attack_auc": [0.5, 0.4, 0.6]}},
    "config_sha256": "e",
    "code": {"sha256": "f"},
    "files": dict.fromkeys(receipt.ALWAYS, "g"),
}


def pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


@pytest.fixture
def key(tmp_path):
    path, private = tmp_path / "key.pem", ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(pem(private))
    return path, private.public_key().public_bytes_raw().hex()


def test_a_signature_is_one_that_the_library_itself_accepts(key):
    path, public = key
    sealed = receipt.seal_receipt(BODY, path)
    signature = bytes.fromhex(sealed["signature"]["signature"])
    ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
        signature, sealed["receipt_sha256"].encode()
    )
    assert sealed["signature"]["public_key"] == public
    assert receipt.seal_problems(sealed) == receipt.seal_problems(sealed, public) == []


def test_any_byte_of_a_signed_receipt_that_changes_a_value_is_found(key):
    """Over the text as it is written: what no longer reads as JSON is found by reading it."""
    path, public = key
    text = json.dumps(receipt.seal_receipt(BODY, path), indent=2)
    for place in range(len(text)):
        swapped = text[:place] + ("7" if text[place] != "7" else "8") + text[place + 1 :]
        try:
            parsed = json.loads(swapped)
        except ValueError:
            continue
        if parsed != json.loads(text):  # white space has no say
            assert "receipt_sha256" not in parsed or receipt.seal_problems(parsed, public), swapped


def test_a_receipt_made_up_whole_has_a_seal_but_not_the_signature(key, tmp_path):
    path, public = key
    made_up = receipt.seal_receipt({**BODY, "request": {**BODY["request"], "count": 3}})
    assert receipt.seal_problems(made_up) == []
    assert receipt.seal_problems(made_up, public) == ["signature: there is none"]
    other = tmp_path / "other.pem"
    other.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    assert receipt.seal_problems(receipt.seal_receipt(BODY, other), public) == [
        "signature: it was made with another key"
    ]
    stolen = {**made_up, "signature": receipt.seal_receipt(BODY, path)["signature"]}
    assert receipt.seal_problems(stolen) == ["signature: it does not fit the receipt"]


def test_keys_that_openssl_makes_are_read(tmp_path):
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "k.pem"], check=True)
        subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / "k.pem", "-pubout", "-out", tmp_path / "p.pem"], check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl with ed25519 here")
    public = receipt.public_key(tmp_path / "p.pem")
    assert receipt.seal_problems(receipt.seal_receipt(BODY, tmp_path / "k.pem"), public) == []


def test_other_keys_are_refused_in_one_line(tmp_path):
    for name, content in (
        ("none.pem", None),
        ("text.pem", b"hello"),
        ("ec.pem", pem(ec.generate_private_key(ec.SECP256R1()))),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        for read, flag in ((receipt.private_key, "--sign"), (receipt.public_key, "--public_key")):
            with pytest.raises(ConfigError, match=f"{flag}: .*{name}.*allowed: an Ed25519") as caught:
                read(tmp_path / name)
            assert len(str(caught.value).splitlines()) == 1


def test_files_are_hashed_and_altered_missing_and_new_ones_are_named(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"abc")
    (tmp_path / "result.json").write_bytes(b"{}")
    files = receipt.files_sha256(tmp_path)
    assert files == {
        "model/weights": hashlib.sha256(b"abc").hexdigest(),
        "result.json": hashlib.sha256(b"{}").hexdigest(),
    }
    whole = receipt.path_sha256(tmp_path)
    assert receipt.path_sha256(tmp_path / "result.json") == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "receipt.json").write_text("{}")  # is not in itself
    assert receipt.file_problems({"files": files}, tmp_path) == []
    (tmp_path / "model" / "weights").write_bytes(b"abd")
    assert receipt.path_sha256(tmp_path) != whole
    (tmp_path / "result.json").unlink()
    (tmp_path / "more").write_bytes(b"")
    assert receipt.file_problems({"files": files}, tmp_path) == [
        "model/weights: it was altered",
        "result.json: it is missing",
        "more: it is not in the receipt",
    ]


def test_what_is_no_receipt_is_refused(tmp_path):
    for content in (None, "{", "[]", '{"schema": 99}'):
        if content is not None:
            (tmp_path / "receipt.json").write_text(content)
        with pytest.raises(ConfigError, match="receipt: .*allowed: a receipt.json"):
            receipt.read_receipt(tmp_path / "receipt.json")


def _without(path):
    parsed = json.loads(json.dumps(receipt.seal_receipt(BODY)))
    *above, last = path
    inner = parsed
    for name in above:
        inner = inner[name]
    del inner[last]
    return parsed


@pytest.mark.parametrize(
    "path",
    [("signature",), ("code",), ("model", "after"), ("request", "number"), ("files", "config.json"), ("method",)],
    ids=".".join,
)
def test_a_receipt_that_lacks_something_is_none_whatever_its_seal(tmp_path, path):
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt.seal_receipt(BODY)))
    assert receipt.read_receipt(file)["request"]["count"] == 2
    parsed = _without(path)
    body = {name: value for name, value in parsed.items() if name not in ("receipt_sha256", "signature")}
    made_up = receipt.seal_receipt(body) if path != ("signature",) else parsed
    file.write_text(json.dumps(made_up))
    with pytest.raises(ConfigError, match="is no receipt of schema 1"):
        receipt.read_receipt(file)
    file.write_text(json.dumps(receipt.seal_receipt(BODY) | {"receipt_sha256": 3}))
    with pytest.raises(ConfigError, match="is no receipt of schema 1"):
        receipt.read_receipt(file)
