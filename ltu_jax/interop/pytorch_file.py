"""Reads and rewrites files of ``torch.save``, without PyTorch and without running code from the file.

Such a file is a zip of one pickle, which describes the tensors, and the bytes of their storages. A pickle can call any
function; this reader allows only those that build dictionaries and tensors, and replaces them by its own. A file is
rewritten by replacing the bytes of storages: names, types, order and everything else stay the same.
"""

import contextlib
import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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

SUFFIXES = (".pth", ".pt", ".bin")

STATE_DICTS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code commonly nests the weights."""


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
        pickled = archive.read(f"{root}/data.pkl")
        # The unpickler allocates its memo up to the largest index in the pickle.
        indices = [index for code, index, _ in pickletools.genops(pickled) if "PUT" in code.name]
        if any(index is not None and index > len(pickled) for index in indices):
            raise ValueError("it remembers more objects than it has bytes")
        top = _Reader(io.BytesIO(pickled)).load()
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
        f"{field}: {str(path)!r} holds {why}; allowed: torch.save(model.state_dict(), PATH), PyTorch >= 1.6"
    )


class _Ordered(dict):
    """An OrderedDict of the pickle. Its attributes are kept in ``state``, so that none can overwrite a method."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Rebuilt:
    """Builds a tensor. It has slots, so that the pickle cannot set attributes of it."""

    __slots__ = ()

    def __call__(self, storage: tuple[str, Any], offset: int, size: Any, stride: Any, *_: Any) -> Stored:
        return Stored(*storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


class _Parameter:
    """Builds a parameter, which is just its tensor."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


class _Reader(pickle.Unpickler):
    """An unpickler that calls only the functions below."""

    _ALLOWED = {
        ("collections", "OrderedDict"): _Ordered,
        ("torch._utils", "_rebuild_tensor_v2"): _Rebuilt(),
        ("torch._utils", "_rebuild_parameter"): _Parameter(),
        ("torch", "Size"): tuple,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == "torch" and global_name in _DTYPES:
            return global_name
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is not run")
        return self._ALLOWED[module_name, global_name]

    def persistent_load(self, pid: Any, /) -> tuple[str, Any]:
        kind, storage, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"a {kind}")
        return str(key), _DTYPES[storage]
