"""``receipt.json``: request, method and evidence as hashes and figures; sealed, and signed if a key is given.

It lists the hash of every file of the request's folder, so that any changed byte is found. The seal protects against
damage; only a signature protects against a forged receipt.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ltu_jax.interop import sealing
from ltu_jax.safe_reading import read_bytes, read_json, reason
from ltu_jax.setting import ConfigError, digest

RECEIPT = "receipt.json"
SCHEMA = 1
WORK = "work"
"""Folder of temporary files of a request: checkpoints, trials, attackers. Not part of the receipt."""
ALWAYS = ("config.json", "result.json", "rows.json", "report.html")
"""Files of every request, besides its model."""
_MODEL = {"tree_sha256": str}
SHAPE = {
    "schema": int,
    "request": {"number": int, "count": int, "repeated": int, "ids_sha256": str, "previous": str},
    "model": {"before": _MODEL | {"file_sha256": (str, type(None))}, "after": _MODEL},
    "method": str,
    "evidence": {"rows": dict, "classes": list},
    "config_sha256": str,
    "code": {"sha256": str},
    "files": dict,
    "receipt_sha256": str,
    "signature": (dict, type(None)),
}
"""The keys and types that a receipt must have."""


def files_sha256(folder: Path) -> dict[str, str]:
    """Hash of every file in the folder of a request, without the receipt and ``WORK``."""
    left_out = {folder / RECEIPT, folder / WORK}
    return sealing.files_sha256(folder, lambda path: left_out.isdisjoint((path, *path.parents)))


def path_sha256(path: Path) -> str:
    """Hash of a file, or of the names and contents of all files in a folder."""
    return digest(sealing.files_sha256(path)) if path.is_dir() else sealing.file_sha256(path)


def code_sha256() -> str:
    """Hash of all Python files of this package: identifies the code more exactly than a version."""
    root = Path(__file__).parents[1]
    return digest(sealing.files_sha256(root, lambda path: path.suffix == ".py"))


def seal_receipt(receipt: Mapping[str, Any], key: Path | None = None) -> dict[str, Any]:
    """The receipt with its hash and, if a key is given, its signature.

    Args:
      receipt: JSON-ready.
      key: Ed25519 private key, PEM (``openssl genpkey -algorithm ed25519 -out key.pem``), not encrypted.

    Returns:
      The receipt with ``receipt_sha256`` and ``signature`` (None without a key).

    Raises:
      ConfigError: if the key cannot be used.
    """
    sealed = {**receipt, "receipt_sha256": digest(receipt)}
    return {**sealed, "signature": None if key is None else _sign(sealed["receipt_sha256"], private_key(key))}


def private_key(path: Path) -> Any:
    """The Ed25519 private key in a PEM file.

    Raises:
      ConfigError: if the file has no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    allowed = "allowed: an Ed25519 private key in PEM, not encrypted (openssl genpkey -algorithm ed25519)"
    return _read_key("--sign", path, lambda pem: load_pem_private_key(pem, None), Ed25519PrivateKey, allowed)


def public_key(path: Path) -> str:
    """The Ed25519 public key in a PEM file, hex as in signatures.

    Raises:
      ConfigError: if the file has no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    allowed = "allowed: an Ed25519 public key in PEM (openssl pkey -in key.pem -pubout)"
    return _read_key("--public_key", path, load_pem_public_key, Ed25519PublicKey, allowed).public_bytes_raw().hex()


def _read_key(flag: str, path: Path, load: Callable[[bytes], Any], kind: type, allowed: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load(read_bytes(path))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{flag}: {str(path)!r} cannot be read ({type(error).__name__}); {allowed}") from error
    if not isinstance(key, kind):
        raise ConfigError(f"{flag}: {str(path)!r} holds another kind of key; {allowed}")
    return key


def read_receipt(path: Path) -> dict[str, Any]:
    """Reads a receipt.

    Raises:
      ConfigError: if the file is missing or not a receipt.
    """
    try:
        receipt = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"receipt: {str(path)!r} cannot be read ({reason(error)}); allowed: a {RECEIPT}") from error
    valid = _is_like(receipt, SHAPE) and all(_is_like(count, int) for count in receipt["evidence"]["rows"].values())
    if not valid or receipt["schema"] != SCHEMA or set(ALWAYS) - set(receipt["files"]):
        raise ConfigError(f"receipt: {str(path)!r} is no receipt of schema {SCHEMA}; allowed: a {RECEIPT}")
    return receipt


def _is_like(value: Any, shape: Any) -> bool:
    """Whether a value has the keys and types of a shape; other keys are allowed."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(name in value and _is_like(value[name], shape[name]) for name in shape)
    return isinstance(value, shape) and not isinstance(value, bool)


def seal_problems(receipt: Mapping[str, Any], public: str | None = None) -> list[str]:
    """What is wrong with seal and signature, one line each.

    Args:
      receipt: from ``read_receipt``.
      public: the key of the required signature, hex; None accepts any signature and none.
    """
    body = {name: value for name, value in receipt.items() if name not in ("receipt_sha256", "signature")}
    signature, found = receipt.get("signature"), []
    if digest(body) != receipt["receipt_sha256"]:
        found.append("receipt: its contents do not fit its seal")
    if signature is None and public is not None:
        found.append("signature: there is none")
    if signature is not None and not _is_signed(receipt["receipt_sha256"], signature):
        found.append("signature: it does not fit the receipt")
    elif signature is not None and public is not None and signature.get("public_key") != public:
        found.append("signature: it was made with another key")
    return found


def file_problems(receipt: Mapping[str, Any], folder: Path) -> list[str]:
    """Files that were altered, are missing or are not in the receipt, one line each."""
    then, now = receipt["files"], files_sha256(folder)
    altered = [f"{name}: it was altered" for name in then if name in now and then[name] != now[name]]
    missing = [f"{name}: it is missing" for name in then if name not in now]
    return [*altered, *missing, *(f"{name}: it is not in the receipt" for name in now if name not in then)]


def _sign(text: str, key: Any) -> dict[str, str]:
    public = key.public_key().public_bytes_raw().hex()
    return {"algorithm": "Ed25519", "public_key": public, "signature": key.sign(text.encode()).hex()}


def _is_signed(text: str, signature: Any) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        key.verify(bytes.fromhex(signature["signature"]), text.encode())
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return signature.get("algorithm") == "Ed25519"
