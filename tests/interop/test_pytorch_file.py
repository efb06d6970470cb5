"""Files that torch.save wrote (make_pytorch_fixtures.py), read without it; what would run code is refused."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import jax
import numpy as np
import pytest

from ltu_jax.interop import pytorch_file
from ltu_jax.setting import ConfigError

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def views():
    with np.load(HERE / "views.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("name", ["views.pth", "wrapped.pth"])
def test_tensors_are_those_that_were_saved_whatever_part_of_a_storage_they_are(views, name):
    found = pytorch_file.read_state_dict(HERE / name, "field")
    assert list(found) == list(views)
    for key, wanted in views.items():
        np.testing.assert_array_equal(found[key].astype(np.float32), wanted, err_msg=key)
    kinds = [found[key].dtype.name for key in ("whole", "half", "brain", "count")]
    assert kinds == ["float32", "float16", "bfloat16", "int64"]


def test_a_file_rewritten_with_its_own_numbers_is_the_same_entry_for_entry(tmp_path):
    source, target = HERE / "wrapped.pth", tmp_path / "again.pth"
    pytorch_file.rewrite(source, target, pytorch_file.read_state_dict(source, "field"), "field")
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target) as after:
        assert [(e.filename, e.extra) for e in before.infolist()] == [(e.filename, e.extra) for e in after.infolist()]
        assert all(before.read(name) == after.read(name) for name in before.namelist())


def test_other_numbers_are_written_where_the_tensor_lies_and_nowhere_else(tmp_path, views):
    source, target = HERE / "views.pth", tmp_path / "new.pth"
    new = {"part": np.full((3, 3), 9.0, np.float32), "brain": np.array([1, 2, 3.0078125], np.float32)}
    pytorch_file.rewrite(source, target, new, "field")
    found = pytorch_file.read_state_dict(target, "field")
    whole = views["whole"].copy()
    whole[1:4, ::2] = 9
    np.testing.assert_array_equal(found["whole"], whole)
    np.testing.assert_array_equal(found["turned"], whole.T)  # the same storage
    np.testing.assert_array_equal(found["brain"].astype(np.float32), [1, 2, 3])  # rounded to its type
    np.testing.assert_array_equal(found["half"], views["half"])


def packed(path, pickled, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, data in entries.items():
            archive.writestr(f"x/data/{name}", data)
    return path


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function, words", [(os.mkdir, "posix.mkdir|nt.mkdir"), (eval, "builtins.eval")])
def test_no_function_of_the_file_is_run(tmp_path, function, words):
    argument = str(tmp_path / "made") if function is os.mkdir else f"open({str(tmp_path / 'made')!r}, 'w')"
    path = packed(tmp_path / "evil.pth", pickle.dumps({"w": Attack(function, argument)}, 2))
    with pytest.raises(ConfigError, match=f"asks for ({words.replace('builtins', '__builtin__|builtins')})"):
        pytorch_file.read_state_dict(path, "config.weights")
    assert not (tmp_path / "made").exists()


def call(function, arguments):
    """Opcodes that leave what a function returns."""
    return b"c" + function + b"\n" + arguments + b"R"


FLOAT, REBUILD = b"ctorch\nFloatStorage\n", b"torch._utils\n_rebuild_tensor_v2"
STORAGE = b"(S'storage'\n" + FLOAT + b"S'0'\nS'cpu'\nI4\ntQ"


def tensor(shape=b"(I4\nt", strides=b"(I1\nt", offset=b"I0\n"):
    return call(REBUILD, b"(" + STORAGE + offset + shape + strides + b"t")


def state_dict(value=None, name=b"S'w'\n"):
    return b"\x80\x02}(" + name + (tensor() if value is None else value) + b"u."


def listed(depth):
    """A list that holds a list twice that holds a list twice ... and one tensor at the bottom."""
    return b"(" + tensor() + b"lq\x010" + b"(h\x01h\x01lq\x010" * depth + b"h\x01"


def shared(depth):
    """A tuple that holds a tuple twice that holds a tuple twice ...: 2**depth steps for whoever follows it."""
    return b"(tq\x01" + b"0h\x01h\x01\x86q\x01" * depth


def nested(depth):
    """A tuple in a tuple in a tuple ...."""
    return b"(" * depth + b"t" * depth


BIG = b"L" + b"9" * 30 + b"L\n"
EVIL = {
    "REDUCE": state_dict(call(b"os\nsystem", b"(S'touch made'\nt")),
    "INST": state_dict(b"(S'touch made'\nios\nsystem\n"),
    "OBJ": state_dict(b"(cos\nsystem\nS'touch made'\no"),
    "NEWOBJ": state_dict(b"csubprocess\nPopen\n(S'touch made'\nt\x81"),
    "GLOBAL": state_dict(b"cos\nsystem\n"),
    "a name that is computed": b"\x80\x04}(S'w'\n\x8c\x05posix\x94\x8c\x06system\x94\x93(S'touch made'\nt\x86Ru.",
    "a name in a name": b"\x80\x04}(S'w'\n\x8c\x05torch\x8c\x10storage.os.system\x93(S'touch made'\ntRu.",
    "EXT1": state_dict(b"\x82\x01"),
    "BUILD of what makes tensors": state_dict(b"c" + REBUILD + b"\n(N}(S'__call__'\nI1\nutb"),
    "BUILD of a type": state_dict(FLOAT + b"(N}(S'dtype'\nI1\nutb"),
    "a storage that is none": state_dict(tensor().replace(b"FloatStorage", b"device")),
    "a name that is a number": state_dict(name=b"I3\n"),
    "a name that is a list": state_dict(name=b"]"),
    "a name of tuples that share 2**60": state_dict(name=shared(60)),
    "a name of tuples, deep": state_dict(name=nested(400_000)),
    "a name of tuples, deeper": state_dict(name=nested(1_000_000)),
    "a name of tuples, deep, without marks": state_dict(name=b")" + b"\x85" * 900_000),
    "a value of tuples, deep": state_dict(nested(400_000)),
    "an entry of tuples that share 2**60": state_dict(tensor().replace(b"S'0'\n", shared(60))),
    "an entry of tuples, deep": state_dict(tensor().replace(b"S'0'\n", nested(400_000))),
    "a shape of tuples, deep": state_dict(tensor(nested(400_000))),
    "a storage that the pickle made": state_dict(call(REBUILD, b"((S'0'\nS'O'\ntI0\n(I4\nt(I1\ntt")),
    "a set": b"\x80\x04\x8f(" + shared(60) + b"\x90.",
    "an ordered dictionary of pairs": call(b"collections\nOrderedDict", b"(((" + shared(60) + b"I1\ntlt") + b".",
    "a shape beyond the storage": state_dict(tensor(b"(L1000000000000L\nt", b"(I0\nt")),
    "a shape beyond all numbers": state_dict(tensor(b"(" + BIG + b"I0\nt", b"(I0\nI0\nt")),
    "a shape of text": state_dict(tensor(b"(S'a'\nt")),
    "an offset below": state_dict(tensor(offset=b"I-1\n")),
    "strides below": state_dict(tensor(strides=b"(I-1\nt")),
    "other strides than sizes": state_dict(tensor(strides=b"(t")),
    "an infinite offset": state_dict(tensor(offset=b"Finf\n")),
    "memory for a billion": state_dict(b"]r\x00\x00\x00\x40"),
    "text of a terabyte": state_dict(b"\x8d\x00\x00\x00\x00\x00\x01\x00\x00"),
    "a list in itself": b"\x80\x02]q\x01h\x01a.",
    "a list of lists of lists": b"\x80\x02" + b"(" * 5000 + b"l" * 5000 + b".",
    "lists that hold 2**60 tensors": b"\x80\x02}(S'model'\n}(S'w'\n" + tensor() + b"uS'x'\n" + listed(60) + b"u.",
    "a tensor in an attribute": state_dict()[:-1] + b"0" + call(b"collections\nOrderedDict", b"(t") + b"(S'w'\n"
    + tensor() + b"u}(S'averaged'\n" + tensor() + b"ub.",
    "an attribute for a method": call(b"collections\nOrderedDict", b"(t") + b"(S'w'\nI1\nu}(S'items'\nI1\nub.",
}  # fmt: skip


def test_the_opcodes_below_are_a_file_where_nothing_is_wrong(tmp_path):
    path = packed(tmp_path / "good.pth", state_dict(), **{"0": np.arange(4, dtype=np.float32).tobytes()})
    np.testing.assert_array_equal(pytorch_file.read_state_dict(path, "field")["w"], [0, 1, 2, 3])


@pytest.mark.parametrize("pickled", EVIL.values(), ids=EVIL)
def test_what_a_pickle_can_ask_for_is_refused_in_one_line(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    path = packed(tmp_path / "evil.pth", pickled, **{"0": bytes(16)})
    with pytest.raises(ConfigError, match="^config.weights: .* allowed: torch.save"):
        pytorch_file.read_state_dict(path, "config.weights")
    assert not (tmp_path / "made").exists() and callable(jax.numpy.float32.dtype.type)
    # and nothing of ours was changed by it
    good = packed(tmp_path / "good.pth", state_dict(), **{"0": bytes(16)})
    assert pytorch_file.read_state_dict(good, "field")["w"].shape == (4,)


def test_an_archive_that_is_larger_than_its_file_is_refused(tmp_path):
    path = packed(tmp_path / "bomb.pth", state_dict(), **{"0": bytes(16)})
    raw = path.read_bytes()
    entry = raw.rindex(b"PK\x01\x02")  # of the last entry, in the directory at the end
    path.write_bytes(raw[: entry + 24] + struct.pack("<I", 2**31) + raw[entry + 28 :])
    with pytest.raises(ConfigError, match="entries that are larger than the file"):
        pytorch_file.read_state_dict(path, "config.weights")


def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path):
    with zipfile.ZipFile(HERE / "views.pth") as archive:
        entries = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    short = {name: data[:4] for name, data in entries.items()}
    with pytest.raises(ConfigError, match="reaches out of its"):
        pytorch_file.read_state_dict(packed(tmp_path / "short.pth", pickled, **short), "config.weights")


@pytest.mark.parametrize(
    "name, words",
    [
        ("whole_model.pth", "asks for torch.nn.modules.linear.Linear"),
        ("with_optimizer.pth", "1 tensors outside of the state dict"),
        ("legacy.pth", "not a zip file"),
    ],
)
def test_files_of_another_kind_are_refused_in_one_line(name, words):
    with pytest.raises(ConfigError, match=words) as caught:
        pytorch_file.read_state_dict(HERE / name, "config.weights")
    message = str(caught.value)
    assert message.startswith("config.weights: ") and "allowed: torch.save(" in message and "\n" not in message
    assert message.endswith("torch.save(torch.load(PATH, weights_only=False)['state_dict'], 'model.pth')")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02."])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="config.weights: "):
        pytorch_file.read_state_dict(path, "config.weights")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", content)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="config.weights: "):
        pytorch_file.read_state_dict(path, "config.weights")
