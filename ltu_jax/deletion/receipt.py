"""``receipt.json``: request, method and evidence as hashes and figures; sealed, and signed if a key is given.

It lists the hash of every file of the request's folder, so that any changed byte is found. The seal protects against
damage; only a signature protects against a forged receipt. Hashes of what was made of the forgotten ids are under the
salt (``ledger.salted_sha256``): with data and model whoever guesses the ids makes the same files.

A receipt has one form, byte by byte: ``json.dumps(receipt, indent=2, sort_keys=True)`` and a line break, without NaN
and without whole numbers beyond 2^53, which readers of JSON understand differently. Its body is the same without
``receipt_sha256``, the SHA-256 of the body, and ``signature``, which is DSSE's: Ed25519 over ``signed_bytes``. So a
standard envelope is ``{"payloadType": PAYLOAD_TYPE, "payload": base64 of the body, "signatures": [{"sig": base64 of
the signature}]}``.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ltu_jax.deletion.ledger import salted_sha256
from ltu_jax.files import file_sha256, files_sha256
from ltu_jax.safe_reading import parse_json, read_bytes, read_json, read_text, reason
from ltu_jax.setting import ConfigError, digest

RECEIPT = "receipt.json"
SCHEMA = 2
PAYLOAD_TYPE = f"application/vnd.ltu-jax.receipt+json;version={SCHEMA}"
LARGEST_WHOLE = 2**53
"""Some readers of JSON round whole numbers beyond."""
REPORT = "report.html"
IMAGES = "images.html"
"""Pictures of forgotten images, where they were asked for; its owner may delete it."""
WORK = "work"
"""Folder of temporary files of a request: checkpoints, trials, attackers. Not part of the receipt."""
ALWAYS = ("config.json", "result.json", "rows.json", REPORT)
"""Files of every request, besides its model."""
FIRST_MODEL = {"tree_sha256": str, "file_sha256": (str, type(None))}
"""What the first request started from: the owner's own model."""
LATER_MODEL = {"salted_sha256": str}
NOBODYS = "the files agree with one another; who wrote them is NOT verified"
"""What is found of a receipt where no signature is asked for."""
SHAPE = {
    "schema": int,
    "request": {"number": int, "count": int, "repeated": int, "ids_sha256": str, "previous": str},
    "model": {"before": dict, "after": LATER_MODEL},
    "method": str,
    "evidence": {"rows": dict, "classes": list},
    "config_sha256": str,
    "code": {"sha256": str},
    "time": {"finished": str},
    "files_salted_sha256": dict,
    "receipt_sha256": str,
    "signature": (dict, type(None)),
}
"""The keys and types that a receipt must have."""
CLAIM = {"findings": list, "numbers": dict}
"""The same of its claim, which receipts of earlier versions lack."""
SINCE_CLAIM = frozenset({"about", "copies", "given_model", "in_memory", "report", "tokens"})
"""Keys that are as new as the claim: a receipt with one of them and no claim had it cut out."""


def files_salted_sha256(folder: Path, salt: bytes) -> dict[str, str]:
    """Salted hash of every file in the folder of a request, without the receipt and ``WORK``."""
    left_out = {folder / RECEIPT, folder / WORK}
    files = files_sha256(folder, lambda path: left_out.isdisjoint((path, *path.parents)))
    return {name: salted_sha256(salt, sha256) for name, sha256 in files.items()}


def path_sha256(path: Path) -> str:
    """Hash of a file, or of the names and contents of all files in a folder."""
    return digest(files_sha256(path)) if path.is_dir() else file_sha256(path)


def code_sha256() -> str:
    """Hash of all Python files and templates of this package: identifies the code more exactly than a version."""
    root = Path(__file__).parents[1]
    return digest(files_sha256(root, lambda path: path.suffix == ".py" or path.parent.name == "templates"))


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """The one form of a receipt.

    Raises:
      ValueError: if a number is not finite.
    """
    return json.dumps(receipt, indent=2, sort_keys=True, allow_nan=False) + "\n"


def body_of(receipt: Mapping[str, Any]) -> bytes:
    """What is sealed and signed of a receipt: its form without ``receipt_sha256`` and ``signature``."""
    left_out = ("receipt_sha256", "signature")
    return receipt_text({name: value for name, value in receipt.items() if name not in left_out}).encode()


def signed_bytes(body: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a body, which keeps its signature from being taken for one of other data.

    https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
    """
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def as_read(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt as its reader has it, before it is sealed.

    Raises:
      FloatingPointError: if a figure is not finite.
    """
    try:
        return json.loads(receipt_text(receipt))
    except ValueError as error:
        raise FloatingPointError("the evidence is not finite: the model gives outputs that are not") from error


def seal_receipt(receipt: Mapping[str, Any], key: Path | None = None) -> dict[str, Any]:
    """The receipt with its hash and, if a key is given, its signature.

    Args:
      receipt: JSON-ready.
      key: Ed25519 private key, PEM (``openssl genpkey -algorithm ed25519 -out key.pem``), not encrypted.

    Returns:
      The receipt with ``receipt_sha256`` and ``signature`` (None without a key).

    Raises:
      ConfigError: if the key cannot be used.
      FloatingPointError: if a figure is not finite.
    """
    body = body_of(as_read(receipt))
    signature = None if key is None else _sign(body, private_key(key))
    return {**receipt, "receipt_sha256": hashlib.sha256(body).hexdigest(), "signature": signature}


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
    """Reads a receipt in its one form.

    Raises:
      ConfigError: if the file is missing or not a receipt.
    """
    where, allowed = f"receipt: {str(path)!r}", f"allowed: a {RECEIPT}"
    try:
        text = read_text(path)
        receipt = parse_json(text, parse_int=_exact)
        is_in_form = receipt_text(receipt) == text
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where} cannot be read ({reason(error)}); {allowed}") from error
    if receipt.get("schema") == 1:
        raise ConfigError(
            f"{where} is of schema 1, which can be read in more than one way, and which tells who guesses the ids that"
            " they are right; allowed: schema 2, as the next request writes it, or the ltu_jax that wrote this one"
        )
    if not is_in_form:
        raise ConfigError(
            f"{where} is not in the form of receipts (sorted keys, an indent of 2, one line break at the end, no key"
            f" twice, numbers as Python writes them); {allowed}, byte by byte as it was written"
        )
    if receipt.get("schema") != SCHEMA or not _is_receipt(receipt):
        raise ConfigError(f"{where} is no receipt of schema {SCHEMA}; {allowed}")
    return receipt


def _exact(text: str) -> int:
    if abs(value := int(text)) > LARGEST_WHOLE:
        raise ValueError(f"a whole number beyond {LARGEST_WHOLE}")
    return value


def _is_receipt(receipt: Mapping[str, Any]) -> bool:
    if not _is_like(receipt, SHAPE):
        return False
    before = FIRST_MODEL if receipt["request"]["number"] == 1 else LATER_MODEL
    return (
        _is_like(receipt["model"]["before"], before)
        and all(_is_like(count, int) for count in receipt["evidence"]["rows"].values())
        and set(ALWAYS) <= set(receipt["files_salted_sha256"])
        and (_is_claim(receipt["claim"]) if "claim" in receipt else not receipt.keys() & SINCE_CLAIM)
    )


def is_shown(receipt: Mapping[str, Any]) -> bool | None:
    """Whether forgetting is shown, as a receipt says itself; None for one of an earlier version, which does not say."""
    return None if (claim := receipt.get("claim")) is None else claim["shown"]


def shown_in(folder: Path) -> bool | None:
    """``is_shown`` of the receipt in the folder of a request; False where there is none that can be read."""
    try:
        return is_shown(read_json(folder / RECEIPT))
    except (OSError, ValueError):
        return False


def verdict_of(receipt: Mapping[str, Any]) -> str:
    """What a receipt says itself of its claim, which was not judged anew, in words."""
    match is_shown(receipt):
        case None:
            return "the receipt, of an earlier version, does NOT SAY whether forgetting is shown"
        case shown:
            return f"the receipt says that forgetting is {'shown' if shown else 'NOT SHOWN'} (not judged anew)"


def _is_claim(claim: Any) -> bool:
    return (
        _is_like(claim, CLAIM)
        and all(isinstance(line, str) for line in claim["findings"])
        and claim.get("shown") is (not claim["findings"])
    )


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
    body, signature, found = body_of(receipt), receipt["signature"], []
    if hashlib.sha256(body).hexdigest() != receipt["receipt_sha256"]:
        found.append("receipt: its contents do not fit its seal")
    if signature is None and public is not None:
        found.append("signature: there is none")
    if signature is not None and not _is_signed(body, signature):
        found.append("signature: it does not fit the receipt")
    elif signature is not None and public is not None and signature["public_key"] != public:
        found.append("signature: it was made with another key")
    return found


def file_problems(receipt: Mapping[str, Any], folder: Path, salt: bytes) -> list[str]:
    """Files that were altered, are missing or are not in the receipt, one line each."""
    then, now = receipt["files_salted_sha256"], files_salted_sha256(folder, salt)
    altered = [f"{name}: it was altered" for name in then if name in now and then[name] != now[name]]
    missing = [f"{name}: it is missing" for name in then if name not in now]
    return [*altered, *missing, *(f"{name}: it is not in the receipt" for name in now if name not in then)]


def strange_files(folder: Path) -> Iterator[str]:
    """What the folder of a finished request never holds, one line each; nothing of it is opened."""
    if (folder / WORK).is_symlink() or (folder / WORK).exists():
        why = "the request is not finished (the same command again does that), or somebody put it there"
        yield f"{WORK}: it is there: {why}"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name}: it is a link"
        elif not path.is_file() and not path.is_dir():
            yield f"{name}: it is no file"


def _sign(body: bytes, key: Any) -> dict[str, str]:
    public = key.public_key().public_bytes_raw().hex()
    return {"algorithm": "Ed25519", "public_key": public, "signature": key.sign(signed_bytes(body)).hex()}


def _is_signed(body: bytes, signature: Mapping[str, Any]) -> bool:
    """Whether a signature fits, and is written as ``_sign`` writes it: it is not signed itself."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public, signed = bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["signature"])
        Ed25519PublicKey.from_public_bytes(public).verify(signed, signed_bytes(body))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return signature == {"algorithm": "Ed25519", "public_key": public.hex(), "signature": signed.hex()}
