"""Random input for every reader of files, settings and weights, drawn by Hypothesis.

A ``Door`` is a reader as the commands call it, with the input to draw for it. Whatever the input, the reader must
accept it or refuse it with one of ``REFUSALS``, which the commands turn into one line; any other exception would be a
traceback. ``bad_inputs.py`` counts the cases, and ``tests/test_fuzz.py`` fails on a traceback. Needs the extra
``test``.
"""

import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from ltu_jax import config
from ltu_jax.deletion import ledger, receipt, rows
from ltu_jax.setting import ConfigError, digest, settings, to_dict
from ltu_jax.training.checkpoint import CheckpointError

REFUSALS = (ConfigError, ledger.LedgerError, CheckpointError)
Draw = Callable[[st.SearchStrategy], Any]


class Door(NamedTuple):
    """A reader, and the input that is drawn for it."""

    given: st.SearchStrategy
    read: Callable[[Path, Any], Any]  # of an empty folder and the drawn input


TEXT = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["", "../x", "/", "a\0b", "\udcff", "x" * 300, "a:b", "~x"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e-320, 10**5000])
PLAIN = st.none() | st.booleans() | NUMBERS | TEXT
WILD = PLAIN | st.tuples(PLAIN) | st.lists(PLAIN, max_size=3).map(tuple) | st.lists(PLAIN, max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: Draw, content: bytes) -> bytes:
    """The bytes with one to four changes: some replaced, deleted, inserted or cut off at the end."""
    out = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(out) - 1)))
        kind = draw(st.sampled_from(["set", "set", "set", "cut", "drop", "add"]))
        if kind == "set" and out:
            out[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + draw(st.integers(1, 8))]
        else:
            out[at:at] = draw(st.binary(max_size=8))
    return bytes(out)


@st.composite
def altered(draw: Draw, value: Any) -> Any:
    """The JSON with one to three of its parts replaced, deleted or added."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        part = value
        while isinstance(part, dict | list) and part:
            key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            if draw(st.booleans()) or not isinstance(part[key], dict | list) or not part[key]:
                break
            part = part[key]
        else:
            continue
        kind = draw(st.sampled_from(["set", "set", "drop", "add"]))
        if kind == "drop":
            del part[key]
        elif kind == "add" and isinstance(part, dict):
            part[draw(TEXT)] = draw(JSON)
        else:
            part[key] = draw(JSON)
    return value


def _write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    return path


@st.composite
def _configs(draw: Draw) -> config.Config:
    drawn = config.Config(method=config.METHOD_CONFIGS[draw(st.sampled_from(sorted(config.METHOD_CONFIGS)))]())
    for name in draw(st.lists(st.sampled_from([name for name, _, _ in settings(drawn)]), min_size=1, max_size=3)):
        group, _, last = name.removeprefix("config.").rpartition(".")
        setattr(functools.reduce(getattr, group.split(".") if group else [], drawn), last, draw(WILD))
    return drawn


def _resolve(_: Path, drawn: config.Config) -> None:
    for resolved in config.each_seed(config.resolve(drawn)):
        assert config.from_dict(to_dict(resolved)).seed == resolved.seed and digest(to_dict(resolved))


def image_file(kind: str) -> bytes:
    """A picture of 8x8 pixels in one of Pillow's formats."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, kind)
    return buffer.getvalue()


def _load(folder: Path, **data: Any) -> None:
    from ltu_jax.data.sources import load_source

    load_source(config.Data(data_dir=str(folder), **data))


def _folder(folder: Path, content: bytes) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        _write(folder / name / "good.png", image_file("PNG"))
    _write(folder / "a" / "other.png", content)
    _load(folder, name="folder", image_size=8)


TABLE = b"path,label,id,part\na.png,0,x,train\nb.png,1,y,test\n"


def _table(folder: Path, content: bytes, kind: str = "csv") -> None:
    for name in ("a.png", "b.png"):
        _write(folder / name, image_file("PNG"))
    _load(folder, name="table", table=str(_write(folder / f"table.{kind}", content)))


@functools.cache
def _parquet() -> bytes:
    import pyarrow.csv
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(io.BytesIO(TABLE)), buffer)
    return buffer.getvalue()


def _arrays(folder: Path, content: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(folder / "train.npz", "w") as archive:
        for name, array in content.items():
            archive.writestr(f"{name}.npy", array)
    _load(folder, name="arrays")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


ARRAYS = {
    "images": _npy(np.zeros((4, 8, 8, 3), np.uint8)),
    "labels": _npy(np.array([0, 1, 0, 1])),
    "ids": _npy(np.array(list("abcd"))),
}
NPZ = st.sampled_from(sorted(ARRAYS)).flatmap(lambda name: damaged(ARRAYS[name]).map(lambda new: ARRAYS | {name: new}))
TREE = {"params": {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}}


def _weights(folder: Path, content: bytes, suffix: str) -> None:
    from ltu_jax.interop.weights import load_weights, save_weights

    path = _write(folder / f"given.{suffix}", content)
    save_weights(path, folder / f"new.{suffix}", load_weights(path, TREE))


@functools.cache
def _safetensors() -> bytes:
    import safetensors.numpy

    return safetensors.numpy.save({f"params.{name}": value for name, value in TREE["params"].items()})


@functools.cache
def _msgpack() -> bytes:
    import flax.serialization

    return flax.serialization.msgpack_serialize(TREE)


def _pickled() -> bytes:
    """The pickle that torch.save writes for two tensors, opcode by opcode, because PyTorch is not installed."""
    head = b"ctorch._utils\n_rebuild_tensor_v2\n"
    tensor = head + b"((S'storage'\nctorch\nFloatStorage\nS'%d'\nS'cpu'\nI6\ntQI0\n(%bt(%btI00\nNtR"
    weight, bias = tensor % (0, b"I2\nI3\n", b"I3\nI1\n"), tensor % (1, b"I3\n", b"I1\n")
    return b"\x80\x02}q\x00(S'params.w'\n" + weight + b"q\x01S'params.b'\n" + bias + b"q\x02u."


def _pth(folder: Path, pickled: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, entry in {"data.pkl": pickled, "data/0": bytes(24), "data/1": bytes(12)}.items():
            archive.writestr(f"x/{name}", entry)
    _weights(folder, buffer.getvalue(), "pth")


BODY = {
    "schema": receipt.SCHEMA,
    "request": {"number": 1, "count": 2, "repeated": 0, "ids_sha256": "a", "previous": "b"},
    "model": {"before": {"tree_sha256": "c", "file_sha256": None}, "after": {"salted_sha256": "d"}},
    "method": "ltu",
    "evidence": {"rows": {"forget": 2}, "classes": []},
    "config_sha256": "e",
    "code": {"sha256": "f"},
    "time": {"finished": "2026-11-27"},
    "files_salted_sha256": dict.fromkeys(receipt.ALWAYS, "g"),
}
SEALED = receipt.seal_receipt(BODY) | {"signature": {"public_key": "aa", "signature": "bb"}}
ENTRY = ledger.Entry(1, "2026-11-27", ("a", "b"), "c", "d", ledger.START)
ROWS = {"held_out": dict.fromkeys(rows.HELD_OUT, ["a"]), "measured": {"remain": ["b"], "held_out": ["a"]}}


def _verify(folder: Path, altered_receipt: Any) -> None:
    """Writes an altered receipt in its form and seals it anew, so that the checks after those are reached."""
    from ltu_jax.deletion.verification import check_hashes, open_request

    try:
        if isinstance(altered_receipt, dict) and "receipt_sha256" in altered_receipt:
            left_out = ("receipt_sha256", "signature")
            altered_receipt = receipt.seal_receipt({n: v for n, v in altered_receipt.items() if n not in left_out})
        text = receipt.receipt_text(altered_receipt)
    except (ValueError, FloatingPointError):  # it has no form
        text = json.dumps(altered_receipt)
    _write(folder / ledger.SALT, "0" * 64)
    check_hashes(open_request(_write(folder / receipt.RECEIPT, text), folder))


def _ledger(folder: Path, entry: Any) -> None:
    if isinstance(entry, dict) and isinstance(entry.get("request"), dict):
        entry["seal"] = digest([entry["request"].get(name) for name in ledger.Entry._fields])
    _write(folder / ledger.LEDGER, json.dumps(entry))
    ledger.forgotten(ledger.read_ledger(folder))


def _rows(folder: Path, record: Any) -> None:
    _write(folder / rows.ROWS, json.dumps(record))
    recorded = rows.read_rows(folder)
    assert all(set(names) for names in recorded.held_out.values() if names)


def made_result(method: str = "ltu", seed: int = 0) -> dict[str, Any]:
    """The content of a run's ``result.json``."""
    scores = {"ua": 10.0, "ra": 99.0, "ta": 90.0, "mi": 45.0}
    return {
        "schema_version": 2,
        "method": method,
        "seeds": {"train": seed, "split": seed, "unlearn": seed},
        "dataset": "digits",
        "model": "resnet8",
        "forget": {"kind": "random", "count": 90, "fraction": 0.3, "sha256": "a"},
        "rho": 0.3,
        **{name: {**scores, "mean": 1.0} for name in ("original", "retrain_spread", "gap", "original_gap")},
        **{name: {**scores, "ut_minutes": 1.0} for name in ("scores", "retrain")},
        "closeness": {"unlearned": {"js_forget": 0.1, "ks": 3.0}, "original": {}, "retrain": {"js_forget": None}},
        "attackers": [{"name": "sorted", "auc_shadow": 0.7}],
        "warnings": ["beware"],
        "ratio": 2.5,
        "cost": {"forward_images": 1.0, "backward_images": 1.0, "flops": 1.0},
        "time": {"compile_s": 18.0, "unlearn_s": 30.0, "original_s": 37.0, "attackers_s": None, "retrain_s": 240.0},
        "splits_sha256": "b",
        "provenance": {"commit": "c", "versions": {"jax": "0"}, "device": "cpu", "started": "2026-11-24"},
    }


def _compared(folder: Path, altered_result: Any) -> None:
    from ltu_jax.reporting import runs
    from ltu_jax.reporting.comparison import render_comparison

    for name, result in (("a", altered_result), ("b", made_result("salun"))):
        (folder / name).mkdir()
        _write(folder / name / "result.json", json.dumps(result))
        _write(folder / name / "config.json", json.dumps({"method": altered_result}))
    render_comparison([runs.read_run(folder / name) for name in ("a", "b")], folder)


def _tabled(folder: Path, altered_result: Any) -> None:
    from ltu_jax.tabling import formats
    from ltu_jax.tabling.layout import build
    from ltu_jax.tabling.runs import read

    results = {"a": altered_result, "b": made_result("b")}
    lines = [{"label": name, "command": "run", "result": result} for name, result in results.items()]
    path = _write(folder / "results.jsonl", "\n".join(map(json.dumps, lines)))
    table = build(1, read([str(path)]))
    assert formats.markdown(table) and formats.latex(table) and formats.to_csv([table])


PEM = b"-----BEGIN PUBLIC KEY-----\n"
PEM += b"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"


def _ids(folder: Path, content: bytes) -> None:
    from ltu_jax.data.splits import read_ids

    read_ids(str(_write(folder / "ids.txt", content)))


ANSWERS = {
    name: _npy(np.zeros((3, 2)) if name in ("forget", "held_out") else np.array([0, 1, 1]))
    for name in ("forget", "forget_labels", "held_out", "held_out_labels")
}
OUTPUTS = st.sampled_from(sorted(ANSWERS)).flatmap(
    lambda name: damaged(ANSWERS[name]).map(lambda new: ANSWERS | {name: new})
)


def _answers(folder: Path, content: Mapping[str, bytes]) -> None:
    from ltu_jax.auditing.answers import read_outputs

    with zipfile.ZipFile(folder / "target.npz", "w") as archive:
        for name, array in content.items():
            archive.writestr(f"{name}.npy", array)
    read_outputs(folder / "target.npz")


HARDNESS = b'"id","iqr","confidence"\n"a",0.5,0.25\n"b",1.5,0.75\n'


def _hardness(folder: Path, content: bytes) -> None:
    from ltu_jax.data import hardness

    hardness.read(str(_write(folder / "rows.csv", content)))


IMAGES = st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]).flatmap(
    lambda kind: damaged(image_file(kind))
)
DOORS = {
    "settings": Door(_configs(), _resolve),
    "config.json": Door(altered(to_dict(config.resolve(config.Config()))), lambda _, value: config.from_dict(value)),
    "ids": Door(st.binary(max_size=60) | st.text().map(str.encode), _ids),
    "difficulty": Door(damaged(HARDNESS), _hardness),
    "CSV": Door(damaged(TABLE), _table),
    "Parquet": Door(st.deferred(lambda: damaged(_parquet())), functools.partial(_table, kind="parquet")),
    "image": Door(IMAGES, _folder),
    "npz": Door(NPZ, _arrays),
    "answers": Door(OUTPUTS, _answers),
    "safetensors": Door(
        st.deferred(lambda: damaged(_safetensors())), functools.partial(_weights, suffix="safetensors")
    ),
    "msgpack": Door(st.deferred(lambda: damaged(_msgpack())), functools.partial(_weights, suffix="msgpack")),
    "pth": Door(damaged(_pickled()), _pth),
    "pickle": Door(JSON.map(functools.partial(pickle.dumps, protocol=2)), _pth),
    "receipt": Door(altered(SEALED), _verify),
    "ledger": Door(altered({"request": ENTRY._asdict(), "seal": ENTRY.seal}), _ledger),
    "rows.json": Door(altered(ROWS), _rows),
    "tabled runs": Door(altered(made_result()), _tabled),
    "key": Door(damaged(PEM), lambda folder, content: receipt.public_key(_write(folder / "key.pem", content))),
    "compared runs": Door(altered(made_result()), _compared),
}
SLOW = ("compared runs",)
"""Readers that draw pictures: a case takes a second."""
