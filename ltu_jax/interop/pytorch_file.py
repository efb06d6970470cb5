"""Reads and rewrites files of ``torch.save``, without PyTorch and without running code from the file.

Such a file is a zip of one pickle, which describes the tensors, and the bytes of their storages. A pickle is a program
that can call any function. It is not unpickled here, but read opcode by opcode, and only those are known that build
dictionaries and tensors. A file is rewritten by replacing the bytes of storages: all else stays the same.
"""

import contextlib
import math
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from ltu_jax.setting import ConfigError

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

Kind = TypeVar("Kind")

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")

STATE_DICTS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code commonly nests the weights."""


_MOST_OPCODES = 1 << 20
"""Some 40 of them describe a tensor, and a million are read in seconds."""
_DEEPEST = 64


class Stored(NamedTuple):
    """A tensor as the pickle describes it: a view of a storage, with strides in elements."""

    storage: str
    dtype: Any
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, raw: bytes | bytearray) -> np.ndarray:
        """The tensor within the bytes of its storage."""
        flat = np.frombuffer(raw, self.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        reaches = 0 not in self.shape and last >= flat.size
        reaches |= math.prod(self.shape) > flat.size  # with strides of 0, a few bytes could claim any size
        if reaches or min((self.offset, *self.shape, *self.strides), default=0) < 0:
            raise ValueError(f"a tensor of shape {self.shape} reaches out of its {flat.size} numbers")
        steps = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps)


def read_state_dict(path: Path, field: str) -> dict[str, np.ndarray]:
    """The tensors of a state dict, by name.

    Args:
      path: a file of ``torch.save`` since PyTorch 1.6: the state dict itself, or a dictionary that holds it under
        one of ``STATE_DICTS``.
      field: the setting, for messages.

    Raises:
      ConfigError: if it is no such file, holds anything but numbers, strings and tensors, or has tensors outside
        of the state dict.
    """
    with _opened(path, field) as (archive, root):
        described, raw = _state_dict(archive, root, path, field), {}
        try:
            for tensor in described.values():
                if tensor.storage not in raw:
                    raw[tensor.storage] = archive.read(f"{root}/data/{tensor.storage}")
            return {name: tensor.view(raw[tensor.storage]).copy() for name, tensor in described.items()}
        except Exception as error:  # values of wrong types, and what zipfile raises for a damaged entry
            raise _refused(path, field, f"{type(error).__name__}: {error}") from error


def rewrite(path: Path, target: Path, tensors: Mapping[str, np.ndarray], field: str) -> None:
    """Copies the file at ``path`` to ``target``, with new values for the given tensors.

    Args:
      path: a file that ``read_state_dict`` can read.
      target: the file to write.
      tensors: new values by name, in the shapes of the file; they are cast to its types.
      field: the setting, for messages.
    """
    with _opened(path, field) as (archive, root):
        described = _state_dict(archive, root, path, field)
        used = {described[name].storage for name in tensors}
        raw = {storage: bytearray(archive.read(f"{root}/data/{storage}")) for storage in used}
        for name, value in tensors.items():
            tensor = described[name]
            tensor.view(raw[tensor.storage])[...] = value.astype(tensor.dtype)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
            for entry in archive.infolist():
                storage = entry.filename.removeprefix(f"{root}/data/")
                out.writestr(entry, bytes(raw[storage]) if storage in raw else archive.read(entry))


@contextlib.contextmanager
def _opened(path: Path, field: str) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """The zip archive at a path, and the name of the folder that all its entries lie in."""
    try:
        archive = zipfile.ZipFile(path)
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed numbers")
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("entries that are larger than the file")
    except Exception as error:  # zipfile raises half a dozen types
        raise _refused(path, field, str(error)) from error
    with archive:
        yield archive, pickled.removesuffix("/data.pkl")


def _state_dict(archive: zipfile.ZipFile, root: str, path: Path, field: str) -> dict[str, Stored]:
    try:
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        top = _described(archive.read(f"{root}/data.pkl"))
    except Exception as error:  # a malformed pickle may raise anything
        raise _refused(path, field, f"{type(error).__name__}: {error}") from error
    within = next((top[key] for key in STATE_DICTS if isinstance(top, dict) and isinstance(top.get(key), dict)), top)
    if not isinstance(within, dict) or not within or not all(map(_is_named_tensor, within.items())):
        raise _refused(path, field, "no dictionary of tensors")
    # Tensors that are not rewritten would still contain the forgotten data: optimizer moments, averaged weights.
    if others := len(_tensors(top).difference(map(id, within.values()))):
        raise _refused(path, field, f"{others} tensors outside of the state dict, which would stay as they are")
    return dict(within)


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Stored)


def _tensors(value: Any) -> set[int]:
    """The ``id()`` of all tensors in a value; repeated and recursive values are visited once."""
    seen, found, left = set(), set(), [value]
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Stored):
            found.add(id(item))
        elif isinstance(item, dict):
            left += [*item, *item.values(), getattr(item, "state", None)]
        elif isinstance(item, (list, tuple, set, frozenset)):
            left += item
    return found


def _refused(path: Path, field: str, why: str) -> ConfigError:
    why = why.strip().splitlines()[0][:200] if why.strip() else "not a zip file"
    return ConfigError(
        f"{field}: {str(path)!r} holds {why}; allowed: torch.save(model.state_dict(), PATH), PyTorch >= 1.6, or of a"
        " checkpoint the weights alone: torch.save(torch.load(PATH, weights_only=False)['state_dict'],"
        " 'model.pth')"
    )


class _Ordered(dict):
    """An OrderedDict of the pickle, and the attributes that it was given."""

    state: Any = None


class _Global(NamedTuple):
    """A name that the pickle asks for; it stands for itself and is never imported."""

    module: str
    name: str


class _Storage(NamedTuple):
    """Where the bytes of a tensor lie, and what they are."""

    entry: str
    dtype: Any


_CALLED = (
    _Global("collections", "OrderedDict"),
    _Global("torch._utils", "_rebuild_tensor_v2"),
    _Global("torch._utils", "_rebuild_parameter"),
    _Global("torch", "Size"),
)
_IGNORED = ("PROTO", "FRAME", "STOP")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _described(pickled: bytes) -> Any:
    """What a pickle describes, tensors as ``Stored``.

    Python's own unpickler hashes any key of a dictionary and follows any nesting, with which a small file can hold it
    for years or end the process. Here each opcode is a bounded piece of work.

    Args:
      pickled: what ``torch.save`` wrote.

    Raises:
      Exception: of any type, if it is anything else.
    """
    stack, marks, memo = [], [], {}

    def above_mark() -> list[Any]:
        at = marks.pop()
        items, stack[at:] = stack[at:], []
        return items

    for number, (opcode, value, _) in enumerate(pickletools.genops(pickled)):
        name = opcode.name
        if number == _MOST_OPCODES or len(marks) > _DEEPEST:
            raise ValueError(f"more than {_MOST_OPCODES} opcodes, or {_DEEPEST} levels")
        if name in _LITERALS:
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if value is None else value] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "POP":
            stack.pop()
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name in _SIZES:
            items = [stack.pop() for _ in range(_SIZES[name])]
            stack.append(tuple(reversed(items)))
        elif name in ("TUPLE", "LIST"):
            stack.append(tuple(above_mark()) if name == "TUPLE" else above_mark())
        elif name in ("APPEND", "APPENDS"):
            items = above_mark() if name == "APPENDS" else [stack.pop()]
            _of(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = above_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _set_items(stack[-1], items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, attribute = [stack.pop(-2), stack.pop()] if value is None else value.split(" ", 1)
            stack.append(_named(_of(str, module), _of(str, attribute)))
        elif name == "BINPERSID":
            stack.append(_storage(_of(tuple, stack.pop())))
        elif name == "REDUCE":
            arguments = _of(tuple, stack.pop())
            stack.append(_called(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _of(_Ordered, stack[-1]).state = state
        elif name not in _IGNORED:
            raise ValueError(f"the opcode {name}, which torch.save does not write")
    (top,) = stack
    return top


def _of(kind: type[Kind], value: Any) -> Kind:
    """The value, which must be of exactly this type: what it holds is not looked at."""
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _set_items(target: Any, items: list[Any]) -> None:
    if type(target) not in (dict, _Ordered):
        raise ValueError(f"items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):  # an optimizer numbers its parameters
            raise ValueError(f"a dictionary with a {type(key).__name__} for a key")
        target[key] = value


def _named(module: str, name: str) -> _Global:
    found = _Global(module, name)
    if found not in _CALLED and not (module == "torch" and name in _DTYPES):
        raise ValueError(f"it asks for {module}.{name}, which is not run")
    return found


def _storage(pid: tuple[Any, ...]) -> _Storage:
    kind, of, key, *_ = pid
    if _of(str, kind) != "storage":
        raise ValueError(f"a {kind}")
    return _Storage(_of(str, key), _DTYPES[_of(_Global, of).name])


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What one of ``_CALLED`` returns."""
    name = _of(_Global, function).name
    if name == "OrderedDict" and not arguments:
        return _Ordered()
    if name == "Size":
        return _of(tuple, *arguments)
    if name == "_rebuild_parameter":
        return arguments[0]
    if name != "_rebuild_tensor_v2":
        raise ValueError(f"a call of {name}")
    storage, offset, *sizes = arguments[:4]
    shape, strides = (tuple(_of(int, size) for size in _of(tuple, one)) for one in sizes)
    return Stored(*_of(_Storage, storage), _of(int, offset), shape, strides)
