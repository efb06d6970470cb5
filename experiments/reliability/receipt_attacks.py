"""The attacks of ``hostile_receipts.py``: the requests they are tried on, what each changes, what must be said."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DONE = (0, 4)
"""Exit statuses of a command that is done; 4 where forgetting is not shown."""
ROOT = Path(__file__).parents[2]
CONFIG = """from ltu_jax.config import LTU, Attackers, Calibration, Config, Data, Model, Training


def get_config(method="ltu"):
    name = "theirs_method:build" if method == "own" else "ltu"
    return Config(
        data=Data(train_size=100, forget_fraction=0.2, reserve_size=60),
        model=Model("experiments.reliability.small:build"),
        training=Training(epochs=20, batch_size=20),
        attackers=Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original"),
        method=LTU(name=name, epochs=4, batch_size=10, query_size=10, num_queries=1, order="none"),
        calibration=Calibration(trials=0),
    )
"""
MARK = "import pathlib\n\npathlib.Path('MARK').touch()\n"
METHOD = """import jax

from ltu_jax.methods.base import one_shot


def build(settings, parts):
    smaller = lambda state: state.replace(params=jax.tree.map(lambda p: 0.9 * p, state.params))
    return one_shot(lambda key, state, visible: (smaller(state), ()))
"""
RECEIPT = "out/request-1/receipt.json"
CODE = ("--code", "experiments.reliability.small:build")
SIGNED, UNSIGNED = ("--public_key", "public.pem", *CODE), ("--unsigned", *CODE)
NOT_IN_BODY = ("receipt_sha256", "signature")


@dataclasses.dataclass(frozen=True)
class Attack:
    """Something that is done to a copy of a finished request, and what the command should then say."""

    item: int  # of the issue
    name: str
    do: Callable[[Path], object]
    words: tuple[str, ...]  # after python -m ltu_jax.
    status: int
    line: str  # is in the line printed at ``at``
    then: Callable[[Path], bool] = lambda folder: True  # whether it held, beside status and line
    scene: str = "one"
    at: int = -1  # the last line, or one before it


def verify(*words: str, receipt: str = RECEIPT) -> tuple[str, ...]:
    """The words of a check."""
    return ("verify", receipt, *words)


def forget(ids: str, method: str = "ltu") -> tuple[str, ...]:
    """The words of a request."""
    config = "mine.py" if method == "ltu" else f"mine.py:{method}"
    return ("unlearn", "--config", config, "--forget", ids, "--workdir", "out", "--sign", "key.pem", "--keep_original")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of the package in a folder, from whose modules it imports as it would for a user."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}", "TFDS_DATA_DIR": str(folder / "tfds"), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-m", f"ltu_jax.{words[0]}", *words[1:]], cwd=folder, env=env, capture_output=True, text=True
    )


def made(folder: Path, *words: str) -> None:
    """Runs a command that must succeed."""
    done = run(folder, *words)
    if done.returncode not in DONE:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")


def scenes(base: Path) -> dict[str, Path]:
    """Folders with one request, two requests, one by a method of one's own, and one by another list."""
    from ltu_jax.config import Config, Data, Model, resolve
    from ltu_jax.unlearning.problem import load_problem

    one, own, two = base / "one", base / "own", base / "two"
    one.mkdir()
    settings = Config(data=Data(train_size=100, reserve_size=60), model=Model("experiments.reliability.small:build"))
    loaded = load_problem(resolve(settings))
    ids = loaded.source.ids[loaded.splits.train].tolist()
    lists = {"ids": ids[:20], "more": ids[20:30], "nearly": [*ids[:19], ids[30]], "others": ids[40:60]}
    for name, some in lists.items():
        (one / f"{name}.txt").write_text("\n".join(some) + "\n")
    (one / "mine.py").write_text(CONFIG)
    (one / "theirs_method.py").write_text(METHOD)
    (one / "evil.py").write_text(MARK)
    for name in ("key", "other"):
        make_key(one, name)
    shutil.copytree(one, own)
    made(one, *forget("ids.txt"))
    made(own, *forget("ids.txt", "own"))
    (own / "theirs_method.py").write_text(MARK)  # what it was is not needed any more
    shutil.copytree(one, two)
    made(two, *forget("more.txt"))
    return {"one": one, "own": own, "two": two}


def make_key(folder: Path, name: str) -> None:
    """Writes ``name.pem`` and its public key, ``public.pem`` for ``key``."""
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), to.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, to.PrivateFormat.PKCS8, to.NoEncryption()))
    public = key.public_key().public_bytes(pem, to.PublicFormat.SubjectPublicKeyInfo)
    (folder / ("public.pem" if name == "key" else f"{name}_public.pem")).write_bytes(public)


def sealed_anew(folder: Path, change: Callable[[dict[str, Any]], object], key: str | None = None) -> None:
    """Changes config.json, and seals files, receipt and ledger anew, as somebody would who has all but the key.

    Args:
      folder: holds ``out`` with one request.
      change: alters the settings in place.
      key: another key that signs it; None signs nothing.
    """
    from ltu_jax.deletion import ledger, receipt
    from ltu_jax.setting import digest

    home, path = folder / "out", folder / RECEIPT
    settings, salt = json.loads((path.parent / "config.json").read_text()), ledger.read_salt(home)
    change(settings)
    (path.parent / "config.json").write_text(json.dumps(settings))
    body = {name: value for name, value in json.loads(path.read_text()).items() if name not in NOT_IN_BODY}
    body["config_sha256"], body["method"] = digest(settings), settings["method"]["name"]
    body["files_salted_sha256"] = receipt.files_salted_sha256(path.parent, salt or b"")
    sealed = receipt.seal_receipt(body, None if key is None else folder / key)
    path.write_text(receipt.receipt_text(sealed))
    [entry] = ledger.read_ledger(home)
    (home / ledger.LEDGER).unlink()
    ledger.append(home, entry._replace(receipt_sha256=sealed["receipt_sha256"]))


def setting(field: str, value: object) -> Callable[[Path], None]:
    """Names something in the configuration of a receipt, ``field`` with dots."""

    def change(settings: dict[str, Any]) -> None:
        *groups, last = field.split(".")
        for group in groups:
            settings = settings[group]
        settings[last] = value

    return lambda folder: sealed_anew(folder, change)


def text(path: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Changes the text of a file."""

    def do(folder: Path) -> None:
        before = (folder / path).read_text()
        after = change(before)
        if after == before:
            raise RuntimeError(f"{path} was not changed")
        (folder / path).write_bytes(after.encode())

    return do


def whole(folder: Path) -> bool:
    """Whether nothing was imported, written or fetched."""
    return not any((folder / name).exists() for name in ("MARK", "mapped", "tfds"))


def handed_out(change: Callable[[Path], object], *, signed_again: bool = False) -> Callable[[Path], None]:
    """What a recipient gets, with a change of its report; the operator, who has the key, may sign that again."""

    def do(folder: Path) -> None:
        from ltu_jax.deletion import receipt

        sent = folder / "sent"
        sent.mkdir()
        for name in ("receipt.json", "report.html"):
            shutil.copy(folder / "out" / "request-1" / name, sent)
        change(sent)
        if signed_again:
            body = json.loads((sent / "receipt.json").read_text())
            body = {name: value for name, value in body.items() if name not in NOT_IN_BODY}
            body["report"]["sha256"] = hashlib.sha256((sent / "report.html").read_bytes()).hexdigest()
            sealed = receipt.seal_receipt(body, folder / "key.pem")
            (sent / "receipt.json").write_text(receipt.receipt_text(sealed))

    return do


def one_more(sent: Path) -> None:
    """Another number of images in a report."""
    text("report.html", lambda page: page.replace("forget 20 images", "forget 21 images"))(sent)


def of_another_version(sent: Path) -> None:
    """As ``one_more``, and the receipt says that another version made it."""
    one_more(sent)
    body = json.loads((sent / "receipt.json").read_text())
    body["code"]["sha256"] = "0" * 64
    (sent / "receipt.json").write_text(json.dumps(body))


def token_for(row: int) -> Callable[[Path], None]:
    """A recipient's folder with the token of the first id and the image of the ``row``-th."""

    def do(folder: Path) -> None:
        from PIL import Image

        from ltu_jax.config import Data
        from ltu_jax.data.sources import load_source

        handed_out(lambda sent: None)(folder)
        ids = (folder / "ids.txt").read_text().split()
        (folder / "first.txt").write_text(f"{ids[0]}\n")
        made(folder, *verify("--forget", "first.txt", "--tokens", "tokens"))
        [token] = (folder / "tokens").iterdir()
        token.rename(folder / "sent" / "token.json")
        source = load_source(Data("digits"))
        Image.fromarray(source.images[source.ids.tolist().index(ids[row])]).save(folder / "sent" / "mine.png")

    return do


def retimed(folder: Path) -> None:
    """Another time in the ledger, with its seal made anew."""
    from ltu_jax.deletion import ledger

    [entry] = ledger.read_ledger(folder / "out")
    (folder / "out" / ledger.LEDGER).unlink()
    ledger.append(folder / "out", entry._replace(time="2020-01-01T00:00:00+00:00"))


def linked(folder: Path) -> None:
    """Puts a file elsewhere and a link to it in its place."""
    report = folder / "out" / "request-1" / "report.html"
    report.rename(folder / "elsewhere.html")
    report.symlink_to(folder / "elsewhere.html")


def old_model_in_work(folder: Path) -> None:
    """Puts the original back, where no receipt looks."""
    [original] = (folder / "cache").glob("original-*")
    shutil.copytree(original, folder / "out" / "request-1" / "work" / original.name)


def signed_otherwise(folder: Path) -> None:
    """Signs the hash alone, as receipts of schema 1 did, with the right key."""
    from ltu_jax.deletion import receipt

    path = folder / RECEIPT
    sealed = json.loads(path.read_text())
    signature = receipt.private_key(folder / "key.pem").sign(sealed["receipt_sha256"].encode()).hex()
    path.write_text(receipt.receipt_text(sealed | {"signature": sealed["signature"] | {"signature": signature}}))


NAMED = (
    ("a method's code", "method.name", "evil:build", 0, "consistent (nobody vouches for it): hashes and evidence of"),
    ("a model's code", "model.name", "evil:build", 2, "checking evidence runs the model's code"),
    ("a data set's code", "data.name", "evil:read", 2, "checking evidence runs the data set's code"),
    ("where pixels are mapped", "data.memory_map", "mapped", 0, "consistent (nobody vouches for it): hashes and evid"),
    ("a data set to download", "data.name", "cifar10", 2, "nothing is fetched or written here"),
    ("another one", "data.name", "cifar100", 2, "nothing is fetched or written here"),
    ("one to prepare", "data.name", "tiny_imagenet", 2, "nothing is fetched or written here"),
    ("data at an address", "data.data_dir", "gs://bucket/data", 2, "which is not opened"),
    ("a table at an address", "data.table", "https://host/rows.csv", 2, "which is not opened"),
    ("weights at an address", "weights", "https://host/model.pth", 2, "which is not opened"),
)
FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("a key twice, the other value last", lambda t: t.replace('"count": 20', '"count": 20,\n    "count": 21')),
    ("a key twice, the other value first", lambda t: t.replace('"count": 20', '"count": 21,\n    "count": 20')),
    ("NaN for a figure", lambda t: t.replace('"level": 95', '"level": NaN')),
    ("1e999 for a figure", lambda t: t.replace('"level": 95', '"level": 1e999')),
    ("2^53 + 1 for a count", lambda t: t.replace('"count": 20', '"count": 9007199254740993')),
    ("a number written otherwise", lambda t: t.replace('"level": 95', '"level": 9.5e1')),
    ("a lone surrogate", lambda t: t.replace('"ltu"', '"\\ud800"')),
    ("a letter written otherwise", lambda t: t.replace('"ltu"', '"\\u006ctu"')),
    ("bytes after the end", lambda t: t + "{}"),
    ("a blank after the end", lambda t: t + " "),
    ("other blanks", lambda t: json.dumps(json.loads(t), sort_keys=True)),
    ("another order of keys", lambda t: json.dumps(dict(reversed(json.loads(t).items())), indent=2) + "\n"),
    ("line breaks of Windows", lambda t: t.replace("\n", "\r\n")),
    ("more in the signature", lambda t: t.replace('"algorithm"', '"a": 1,\n    "algorithm"')),
)


def attacks() -> Iterator[Attack]:
    """All attacks, by the item of the issue."""
    nothing = lambda folder: None  # noqa: E731
    yield Attack(1, "none: an honest request", nothing, verify(*SIGNED), 0, "verified: hashes and evidence of", whole)
    honest = "verified: hashes and evidence of"
    yield Attack(1, "none: by a method of one's own", nothing, verify(*SIGNED), 0, honest, whole, "own")
    for name, field, value, status, line in NAMED:
        yield Attack(1, f"it names {name}", setting(field, value), verify(*UNSIGNED), status, line, whole)
    yield from ledgers()
    for name, change in FORMS:
        line = "it does not fit" if "signature" in name else "allowed: a receipt.json"
        status = 1 if "signature" in name else 2
        yield Attack(6, name, text(RECEIPT, change), verify(*SIGNED), status, "NOT verified" if status == 1 else line)
    made_up = setting("seed", 1)
    yield Attack(6, "made up, no key asked for", made_up, verify(*CODE), 1, "who wrote them is NOT verified")
    yield Attack(6, "made up, a key asked for", made_up, verify(*SIGNED), 1, "NOT verified: 1 finding")
    other = lambda folder: sealed_anew(folder, lambda settings: None, "other.pem")  # noqa: E731
    yield Attack(6, "made up, signed by another", other, verify(*SIGNED), 1, "NOT verified: 1 finding")
    yield Attack(6, "the hash signed, not the bytes", signed_otherwise, verify(*SIGNED), 1, "NOT verified: 1 finding")
    yield Attack(6, "another time in the ledger", retimed, verify(*SIGNED), 1, "NOT verified: 1 finding")
    yield Attack(6, "the old model in work/", old_model_in_work, verify(*SIGNED), 1, "NOT verified: 1 finding")
    yield Attack(6, "a link to the same bytes", linked, verify(*SIGNED), 1, "NOT verified: 1 finding")
    pipe = lambda folder: os.mkfifo(folder / "out" / "request-1" / "pipe")  # noqa: E731
    yield Attack(6, "a pipe in the folder", pipe, verify(*SIGNED), 1, "NOT verified: 1 finding")
    yield from recipients()
    gone = lambda folder: (folder / "out" / "salt").unlink()  # noqa: E731
    yield Attack(9, "no salt to compare under", gone, verify(*SIGNED), 1, "NOT verified: 1 finding")
    strange = lambda folder: (folder / "out" / "request-1" / "\x1b[2Jverified\nx").touch()  # noqa: E731
    yield Attack(14, "a name that clears the screen", strange, verify(*SIGNED), 1, "NOT verified: 1 finding")


def recipients() -> Iterator[Attack]:
    """What is done to a recipient, who has receipt, report and key alone."""
    asked = verify("--report", "sent/report.html", "--public_key", "public.pem", receipt="sent/receipt.json")
    honest, not_verified = "verified: receipt with its report of request 1", "NOT verified: "
    yield Attack(4, "none: a recipient's folder", handed_out(lambda sent: None), asked, 0, honest, whole)
    plain = verify("--public_key", "public.pem", receipt="sent/receipt.json")
    yield Attack(4, "the same as an operator's", handed_out(lambda sent: None), plain, 1, not_verified)
    yield Attack(4, "an edited report", handed_out(one_more), asked, 1, not_verified)
    again = handed_out(one_more, signed_again=True)
    yield Attack(4, "an edited report, signed again", again, asked, 1, "NOT verified: 1 finding")
    other = handed_out(of_another_version, signed_again=True)
    yield Attack(4, "an edited report of another version", other, asked, 3, "its report are NOT compared", at=-2)
    token = ("--public_key", "public.pem", "--token", "sent/token.json", "--image", "sent/mine.png")
    token = verify(*token, receipt="sent/receipt.json")
    yield Attack(4, "none: a token and its image", token_for(0), token, 0, "verified: receipt of request 1")
    yield Attack(4, "the token of another", token_for(1), token, 1, "NOT verified: 1 finding")


def ledgers() -> Iterator[Attack]:
    """What may become of a ledger; ``then`` gives further commands."""
    ledger, last = "out/ledger.jsonl", "out/request-2/receipt.json"

    def lines(folder: Path) -> int:
        return len((folder / ledger).read_text().split("\n")) - 1

    def goes_on(folder: Path) -> bool:
        done = run(folder, *forget("more.txt"))
        return (
            done.returncode in DONE
            and lines(folder) == 2
            and not run(folder, *verify(*SIGNED, receipt=last)).returncode
        )

    def is_mended(folder: Path) -> bool:
        """Other ids are told, and nothing is lost; the same ids, list by list, give the same ledger again."""
        before, wanted = (folder / ledger).read_bytes(), (folder / "whole.jsonl").read_bytes()
        told = run(folder, *forget("others.txt"))
        is_told = told.returncode == 1 and "which is done: it lost its end" in told.stderr
        is_told &= (folder / ledger).read_bytes() == before and "Traceback" not in told.stderr
        for ids in ("ids.txt", "more.txt"):
            is_told &= run(folder, *forget(ids)).returncode in DONE
        return is_told and (folder / ledger).read_bytes() == wanted

    def cut(kept: Callable[[bytes], bytes]) -> Callable[[Path], None]:
        def do(folder: Path) -> None:
            shutil.copy(folder / ledger, folder / "whole.jsonl")
            (folder / ledger).write_bytes(kept((folder / ledger).read_bytes()))

        return do

    honest = "verified: hashes and evidence of"
    yield Attack(
        3, "the last line break lost; then the next request", cut(bytes.rstrip), verify(*SIGNED), 0, honest, goes_on
    )
    told, two = "NOT verified: ", verify("--hashes", *SIGNED, receipt=last)
    for name, kept in (
        ("half of the last line lost", lambda raw: raw[:-300]),
        ("zeros for the last line", lambda raw: raw[:-300] + bytes(300)),
        ("the last line lost", lambda raw: raw[: raw.index(b"\n") + 1]),
        ("half of the first line left", lambda raw: raw[:100]),
        ("an empty ledger", lambda raw: b""),
    ):
        yield Attack(3, f"{name}; then the same requests", cut(kept), two, 1, told, is_mended, "two")
    twice = text(ledger, lambda t: t.replace('"number": 1', '"number": 9, "number": 1'))
    yield Attack(3, "a key twice in the ledger", twice, verify(*SIGNED), 1, "NOT verified: 1 finding")
