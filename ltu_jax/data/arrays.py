"""Images as NumPy arrays: ``train.npz`` and, if there is a test part, ``test.npz``."""

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltu_jax.data.records import Example, Records, check_ids, count_classes
from ltu_jax.safe_reading import OBJECT, check_claim
from ltu_jax.setting import ConfigError

_ALLOWED = (
    "allowed: what np.savez writes of images (uint8 [M,H,W], [M,H,W,1] or [M,H,W,3]), labels (integers [M])"
    " and, if wanted, ids (strings or integers [M])"
)


class _Part(NamedTuple):
    images: np.ndarray  # u8[M,H,W] or u8[M,H,W,3]
    labels: list[int]  # M
    ids: list[str]  # M


def read_arrays(data_dir: str | None, num_classes: int | None = None) -> Records:
    """Reads both files, in their order.

    Args:
      data_dir: holds ``train.npz`` and, if there is a test part, ``test.npz``. A file without ``ids`` gets
        ids such as ``train_000042``.
      num_classes: labels must be in ``0..num_classes - 1``; None means the largest label plus one.

    Raises:
      ConfigError: if a file cannot be read, an array is missing or has a wrong type or shape, or rows are
        invalid; the message counts all rows with the first problem found and names five of them.
    """
    folder = Path(os.path.expanduser(data_dir or ""))
    files = [path for path in (folder / "train.npz", folder / "test.npz") if data_dir and path.is_file()]
    if not files or files[0].name != "train.npz":
        what = f" holds no train.npz; {_ALLOWED}" if data_dir else "; allowed: a folder with train.npz and test.npz"
        raise ConfigError(f"config.data.data_dir: {data_dir!r}{what}")
    parts = [_read_part(path) for path in files]
    if not parts[0].labels:
        raise ConfigError(f"config.data.data_dir: '{files[0]}' has no images; {_ALLOWED}")
    where = f"config.data.data_dir: {data_dir!r}"
    rows = [f"row {row} of {path.name}" for path, part in zip(files, parts, strict=True) for row in range(len(part[1]))]
    ids, labels = [name for part in parts for name in part.ids], [label for part in parts for label in part.labels]
    check_ids(where, ids, rows)
    named = [f"{label} of {row}" for label, row in zip(labels, rows, strict=True)]
    num_classes = count_classes(where, labels, named, num_classes)
    images = (image for part in parts for image in part.images)
    examples = (Example(*row) for row in zip(images, labels, ids, strict=True))
    num_train = len(parts[0].labels)
    return Records(examples, num_classes, num_train, len(rows) - num_train, files=tuple(files))


def _read_part(path: Path) -> _Part:
    field = f"config.data.data_dir: '{path}'"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = list(file.files)
            check_sizes(path, ("images", "labels", "ids"), ("labels", "ids"))
            arrays = {name: file[name] for name in ("images", "labels", "ids") if name in found}
            names = arrays["ids"].tolist() if "ids" in found else None
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds for a file that is damaged
        raise ConfigError(f"{field} cannot be read ({' '.join(str(error).split())[:300]}); {_ALLOWED}") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise ConfigError(f"{field} lacks {' and '.join(missing)}, and has {', '.join(found) or 'nothing'}; {_ALLOWED}")
    images, labels = arrays["images"], arrays["labels"]
    numbered = [f"{path.stem}_{row:06d}" for row in range(len(labels) if labels.ndim else 0)]
    names, ids = numbered if names is None else names, arrays.get("ids", np.array(numbered))
    fits = images.ndim == 3 or images.ndim == 4 and images.shape[-1] in (1, 3)
    for name, array, fit in (
        ("images", images, images.dtype == np.uint8 and fits and min(images.shape[1:]) > 0),
        ("labels", labels, labels.dtype.kind in "iu" and labels.ndim == 1),
        ("ids", ids, ids.dtype.kind in "Uiu" or not ids.size),
    ):
        if not fit:
            raise ConfigError(f"{field}, {name} are {array.dtype}{list(array.shape)}; {_ALLOWED}")
    if not len(images) == len(labels) == len(ids) or ids.ndim != 1:
        sizes = f"{len(images)} images, {len(labels)} labels and ids {list(ids.shape)}"
        raise ConfigError(f"{field} has {sizes}; {_ALLOWED}")
    if images.shape[-1] == 1 and images.ndim == 4:
        images = images[..., 0]
    return _Part(images, labels.tolist(), [str(name).strip() for name in names])


def check_sizes(path: Path, names: Sequence[str], as_objects: Sequence[str] = ()) -> None:
    """Refuses arrays whose headers claim more bytes than the file or the memory holds, before they are allocated.

    Args:
      path: an ``.npz``.
      names: the arrays that will be read.
      as_objects: those whose rows become objects of Python, which take memory even if they have no bytes at all.

    Raises:
      ValueError: names the array and both sizes; or all arrays together are more than ``check_claim`` allows.
    """
    total = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")  # NumPy reads them without it too
            if name not in names:
                continue
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
                shape, _, dtype = header(stream)
                claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
            if min(shape, default=0) < 0 or claimed > there:
                raise ValueError(f"{entry.filename} claims {claimed} bytes, and there are {there}")
            total += claimed + (math.prod(shape[:1]) * OBJECT if name in as_objects else 0)
    check_claim(total, path)
