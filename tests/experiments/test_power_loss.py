"""What a disk may hold after a power cut, of operations that are known."""

import random

import pytest

from experiments.reliability.power_loss import Node, Op, apply, meaning, possible


def states(*ops):
    """The states after some operations in ``out``, by kind."""
    root = Node(True)
    root.names = {"out": Node(True)}
    root.flushed_names = dict(root.names)
    for op in ops:
        apply(root, op)
    found = {}
    for kind, state in possible(root, random.Random(0)):
        state.pop("out")
        found.setdefault(kind, []).append({path.removeprefix("out/"): data for path, data in state.items()})
    return found


WRITTEN = [Op("create", ("out/new",)), Op("write", ("out/new",), b"text")]
RENAMED, FILE, FOLDER = Op("rename", ("out/new", "out/a")), Op("fsync", ("out/new",)), Op("fsync", ("out",))
OLD = [Op("create", ("out/a",)), Op("write", ("out/a",), b"old"), Op("fsync", ("out/a",)), FOLDER]


@pytest.mark.parametrize(
    "ops, killed, contents, names",
    [
        (WRITTEN, {"new": b"text"}, {"new": b""}, {}),
        ([*WRITTEN, FOLDER], {"new": b"text"}, {"new": b""}, {"new": b""}),
        ([*WRITTEN, RENAMED], {"a": b"text"}, {"a": b""}, {}),  # the empty file of a rename without a flush
        ([*OLD, *WRITTEN, RENAMED], {"a": b"text"}, {"a": b""}, {"a": b"old"}),
        ([*OLD, *WRITTEN, FILE, RENAMED], {"a": b"text"}, {"a": b"text"}, {"a": b"old"}),
        ([*OLD, *WRITTEN, FILE, RENAMED, FOLDER], *[{"a": b"text"}] * 3),
        ([*OLD, Op("write", ("out/a",), b"er")], {"a": b"older"}, {"a": b"old"}, {"a": b"old"}),
        ([*OLD, Op("truncate", ("out/a",))], {"a": b""}, {"a": b"old"}, {"a": b"old"}),
        ([*OLD, Op("remove", ("out/a",))], {}, {}, {"a": b"old"}),
        ([*OLD, *WRITTEN, Op("sync", ())], *[{"a": b"old", "new": b"text"}] * 3),
    ],
)
def test_what_was_not_flushed_may_be_lost_and_nothing_else(ops, killed, contents, names):
    found = states(*ops)
    assert (found["killed"], found["contents"], found["names"]) == ([killed], [contents], [names])


def test_a_later_name_may_be_there_without_an_earlier_one():
    found = states(*OLD, Op("remove", ("out/a",)), Op("mkdir", ("out/b",)))
    assert {"a": b"old", "b": None} in found["one undone"] and {} in found["one undone"]


def test_calls_are_read_as_strace_writes_them(tmp_path):
    shown = lambda text: "".join(f"\\x{byte:02x}" for byte in str(text).encode())  # noqa: E731
    cwd, inside = f"AT_FDCWD<{shown(tmp_path)}>", f"3<{shown(tmp_path / 'out' / 'a')}>"
    assert list(meaning(tmp_path, "openat", f'{cwd}, "{shown("out/a")}", O_WRONLY|O_CREAT|O_TRUNC, 0666')) == [
        Op("create", ("out/a",)),
        Op("truncate", ("out/a",)),
    ]
    assert list(meaning(tmp_path, "write", f'{inside}, "{shown("two words, (1)")}", 14')) == [
        Op("write", ("out/a",), b"two words, (1)")
    ]
    assert list(meaning(tmp_path, "fsync", inside)) == [Op("fsync", ("out/a",))]
    renamed = f'"{shown(tmp_path / "out" / "a")}", "{shown("out/b")}"'
    assert list(meaning(tmp_path, "rename", renamed)) == [Op("rename", ("out/a", "out/b"))]
    assert list(meaning(tmp_path, "unlinkat", f'4<{shown(tmp_path / "out")}>, "{shown("b")}", 0')) == [
        Op("remove", ("out/b",))
    ]
    assert not list(meaning(tmp_path, "unlink", f'"{shown("/etc/passwd")}"'))
