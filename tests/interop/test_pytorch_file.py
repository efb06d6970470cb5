"""Files that torch.save wrote (make_pytorch_fixtures.py), read without it; what would run code is refused."""

import io
import os
import pathlib
import pickle
import zipfile

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
    found = pytorch_file.read(HERE / name, "field")
    assert list(found) == list(views)
    for key, wanted in views.items():
        np.testing.assert_array_equal(found[key].astype(np.float32), wanted, err_msg=key)
    kinds = [found[key].dtype.name for key in ("whole", "half", "brain", "count")]
    assert kinds == ["float32", "float16", "bfloat16", "int64"]


def test_a_file_rewritten_with_its_own_numbers_is_the_same_entry_for_entry(tmp_path):
    source, target = HERE / "wrapped.pth", tmp_path / "again.pth"
    pytorch_file.rewrite(source, target, pytorch_file.read(source, "field"), "field")
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target) as after:
        assert [(e.filename, e.extra) for e in before.infolist()] == [(e.filename, e.extra) for e in after.infolist()]
        assert all(before.read(name) == after.read(name) for name in before.namelist())


def test_other_numbers_are_written_where_the_tensor_lies_and_nowhere_else(tmp_path, views):
    source, target = HERE / "views.pth", tmp_path / "new.pth"
    new = {"part": np.full((3, 3), 9.0, np.float32), "brain": np.array([1, 2, 3.0078125], np.float32)}
    pytorch_file.rewrite(source, target, new, "field")
    found = pytorch_file.read(target, "field")
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
        pytorch_file.read(path, "config.weights")
    assert not (tmp_path / "made").exists()


def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path):
    with zipfile.ZipFile(HERE / "views.pth") as archive:
        entries = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    short = {name: data[:4] for name, data in entries.items()}
    with pytest.raises(ConfigError, match="reaches out of its"):
        pytorch_file.read(packed(tmp_path / "short.pth", pickled, **short), "config.weights")


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
        pytorch_file.read(HERE / name, "config.weights")
    message = str(caught.value)
    assert message.startswith("config.weights: ") and "allowed: torch.save(" in message and "\n" not in message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02."])
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="config.weights: "):
        pytorch_file.read(path, "config.weights")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", content)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="config.weights: "):
        pytorch_file.read(path, "config.weights")
