"""From ``config.data`` to a ``Source``: chooses the reader, keeps the classes asked for, makes the pixels."""

import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltu_jax.config import MOST_CLASSES, Data
from ltu_jax.data.pixels import Pixels, damaged, files_fingerprint, memory_mapped
from ltu_jax.data.records import FORMATS, MAX_PIXELS, Records, UnfitImageError, decode, refuse, repeated
from ltu_jax.devices import agreed, first_alone
from ltu_jax.safe_reading import memory
from ltu_jax.setting import ConfigError, allowed_names
from ltu_jax.types import Progress, Source, silent

BUILT_IN = ("arrays", "cifar10", "cifar100", "digits", "folder", "table", "tiny_imagenet")
"""Names that need no data set prepared beforehand by TFDS."""

_REPORT_EVERY = 500
_COLUMNS = ("labels", "ids", "num_classes", "num_train", "coarse", "pixels_sha256")
_TUPLES = ("class_names", "unreadable")
_ONLY_OF = {"table": ("table",), "num_classes": ("arrays", "table"), "class_names": ("folder", "table")}


def load_source(data: Data, progress: Progress = silent, *, fetch: bool = True) -> Source:
    """Reads the data set that ``data`` names, whole, into memory or into a file that is mapped into it.

    ``cifar10`` and ``cifar100`` are downloaded and prepared on first use, ``tiny_imagenet`` is prepared
    on first use from its standard folder, into ``data_root(data)``; a name with a colon is the user's own reader
    (``data.own``); any other name is a data set that TFDS prepared there. How it is cut plays no part: of the settings
    ``name``, ``data_dir``, ``table``, ``class_names``, ``num_classes``, ``skip_unreadable``, ``image_size``,
    ``shorter_side``, ``classes``, ``superclasses``, ``memory_map`` and ``stream`` alone are read.

    Args:
      data: what to read.
      progress: how reading reports itself.
      fetch: whether what is not there yet may be downloaded and prepared; ``memory_map`` is written in any case.

    Returns:
      The source; its test part is TFDS's ``test`` split, else ``validation``, else empty.

    Raises:
      ConfigError: an unknown name, a field that is not of this data set, data that are missing or cannot
        be fetched or decoded, images of several sizes without ``image_size``, or ``classes`` that do not exist.
    """
    _check_fields(data)
    if data.memory_map is None:
        source = _assemble(data, first_alone(lambda: _open(data, progress, fetch)), progress, Pixels())
    else:
        source = _mapped(data, progress, fetch)
    streamed = data.stream == "host" or data.stream == "auto" and not agreed(lambda: num_fitting(source))
    return dataclasses.replace(source, streamed=streamed)


def image_files(data: Data, ids: Collection[str]) -> dict[str, bytes]:
    """The encoded images of some rows, as the data hold them, broken ones too; nothing of data that are pixels.

    Raises:
      ConfigError: as ``load_source``.
    """
    return dict(each_image_file(data, ids))


def each_image_file(data: Data, ids: Collection[str], *, fetch: bool = True) -> Iterator[tuple[str, bytes]]:
    """``image_files`` one by one, for those that no memory holds; ``fetch`` as for ``load_source``."""
    wanted = set(ids)
    for example in _open(data, silent, fetch).examples:
        if example.id in wanted and not isinstance(example.image, np.ndarray):
            yield example.id, example.image if isinstance(example.image, bytes) else example.image.read_bytes()


def num_fitting(source: Source) -> int:
    """How many times all images fit into a quarter of the device's memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    here = stats.get("bytes_limit") or memory()
    return here // 4 // source.images.nbytes


def _mapped(data: Data, progress: Progress, fetch: bool) -> Source:
    directory = Path(data.memory_map or "")
    # Fetches what is not there yet: its files are part of what images are made of.
    records = first_alone(lambda: _open(data, progress, fetch))
    fields = (data.name, data.image_size, data.classes, data.superclasses)
    own = (data.table, data.class_names, data.num_classes, data.skip_unreadable)
    made_of = [*fields, *own, _fingerprint(data, records, directory)]
    made_of += [] if data.shorter_side is None else [data.shorter_side]

    def make(pixels: Pixels) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        source = _assemble(data, records, progress, pixels)
        columns = {**vars(source), "pixels_sha256": source.hashed_pixels()}
        kept = {name: np.asarray(columns[name]) for name in _COLUMNS if columns[name] is not None}
        return source.images, kept | {name: np.asarray(columns[name], np.str_) for name in _TUPLES if columns[name]}

    images, columns = memory_mapped(directory, made_of, make)
    tuples: dict[str, Any] = {name: tuple(columns.pop(name).tolist()) for name in _TUPLES if name in columns}
    numbers: dict[str, Any] = {name: column.item() if column.ndim == 0 else column for name, column in columns.items()}
    source = Source(name=data.name, images=images, **numbers, **tuples)
    # Without it, what a disk or a person altered would pass for what the hash in the columns says.
    if agreed(lambda: source.pixels_sha256 not in (None, source.hashed_pixels())):
        raise damaged(Path(str(images.filename)), "its pixels are not those that were written")
    return source


def _fingerprint(data: Data, records: Records, directory: Path) -> list[Any]:
    if records.files is not None:  # what else lies beside a table changes with every run that is kept there
        stats = [(path.name, path.stat()) for path in records.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    root = data_root(data) / ("" if data.name == "folder" else data.name)
    return files_fingerprint(root, directory) if root.is_dir() else []


def data_root(data: Data) -> Path:
    """Where data sets lie: ``data.data_dir``, else ``TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    root = data.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(root))  # Path's own raises for a user that is not there


def _check_fields(data: Data) -> None:
    for field, names in _ONLY_OF.items():
        value = getattr(data, field)
        if value not in (None, ()) and data.name not in names and ":" not in data.name:
            raise ConfigError(
                f"config.data.{field}: {value!r}, but config.data.name is {data.name!r};"
                f" allowed: with config.data.name {' or '.join(names)}"
            )
    names = data.class_names
    if names and (len(names) < 2 or len(set(names)) < len(names)):
        raise ConfigError(
            f"config.data.class_names: {len(names)} names, {len(set(names))} different;"
            " allowed: two or more, all different"
        )


def _open(data: Data, progress: Progress, fetch: bool) -> Records:
    try:
        return _records(data, progress, fetch)
    except OSError as error:  # a folder that may not be entered, a disk that fails
        where = f"config.data.data_dir: {str(data_root(data))!r}"
        raise ConfigError(f"{where} cannot be read ({error}); allowed: a folder that can be read") from error


def _records(data: Data, progress: Progress, fetch: bool) -> Records:
    # Readers are imported here: scikit-learn and TFDS take a second that only their own data sets need.
    from ltu_jax.data import arrays, digits, folder, own, tabular, tfds

    root = data_root(data)
    if ":" in data.name:
        return own.read_own(data)
    if data.name == "digits":
        return digits.read_digits()
    if data.name == "folder":
        return folder.read_folder(data.data_dir, data.class_names)
    if data.name == "table":
        return tabular.read_table(data.table, data.data_dir, data.class_names, data.num_classes)
    if data.name == "arrays":
        return arrays.read_arrays(data.data_dir, data.num_classes)
    version = tfds.find_prepared(root, data.name)
    if version is None and not fetch and data.name in BUILT_IN:
        raise ConfigError(
            f"config.data.name: {data.name!r} is not prepared in {root}, and nothing is fetched or written here;"
            " allowed: a data_dir that holds it prepared"
        )
    if version is None and data.name in ("cifar10", "cifar100"):
        from ltu_jax.data import cifar

        version = cifar.prepare_cifar(data.name, root, progress)
    elif version is None and data.name == "tiny_imagenet":
        from ltu_jax.data import tiny_imagenet

        version = tiny_imagenet.prepare_tiny_imagenet(root, progress)
    elif version is None:
        raise _unknown_name(data.name, root)
    return tfds.read_prepared(version)


def _unknown_name(name: str, root: Path) -> ConfigError:
    from ltu_jax.data import tfds

    registered = tfds.registered_names()
    if name in registered:
        return ConfigError(
            f"config.data.name: {name!r} is not prepared in {root}; allowed: prepare it there once with TFDS"
            " (most of its builders need TensorFlow for that), with file_format='array_record'"
        )
    here = {*BUILT_IN, *tfds.prepared_names(root)}
    # All names of TFDS would fill the screen: they are matched, not listed.
    guess = allowed_names(name, {*here, *registered}).partition("; did you mean")
    known = f"allowed: {', '.join(sorted(here))}, or a TFDS data set prepared in {root}"
    return ConfigError(f"config.data.name: {name!r} is unknown; {known}{''.join(guess[1:])}")


def _renumbering(classes: tuple[int, ...], num_classes: int) -> dict[int, int]:
    allowed = f"allowed: two or more different labels in 0..{num_classes - 1}, or () for all"
    if not 2 <= num_classes <= MOST_CLASSES:
        raise ConfigError(f"config.data.name: number of classes {num_classes}; allowed: 2 to {MOST_CLASSES}")
    if not classes:
        return {label: label for label in range(num_classes)}
    if len(set(classes)) != len(classes) or len(classes) < 2 or not all(0 <= c < num_classes for c in classes):
        raise ConfigError(f"config.data.classes: {classes!r}; {allowed}")
    return {label: new for new, label in enumerate(classes)}


def _superclasses(coarse: tuple[int, ...], num_classes: int) -> tuple[int, ...]:
    if len(coarse) != num_classes or sorted(set(coarse)) != list(range(len(set(coarse)))) or len(set(coarse)) < 2:
        raise ConfigError(
            f"config.data.superclasses: {coarse!r}; allowed: a coarse label for each of the {num_classes} labels,"
            " two or more of them, numbered from 0 without a hole"
        )
    return coarse


def _assemble(data: Data, records: Records, progress: Progress, pixels: Pixels) -> Source:
    renumbered = _renumbering(data.classes, records.num_classes)
    sizes, labels, ids, coarse, unlabelled = set(), [], [], [], []
    broken, named = [], []  # ids, and how a message names them
    _check_memory(data, total := records.num_train + records.num_test)
    num_train = 0
    with progress(f"reading {data.name}", total) as advance:
        for row, example in enumerate(records.examples):
            if row % _REPORT_EVERY == 0:
                advance(min(_REPORT_EVERY, total - row))
            if not 0 <= example.label < records.num_classes:
                unlabelled.append(example.id)
            if example.label not in renumbered:
                continue
            try:
                image = decode(example.image, data.image_size, data.shorter_side)
            except UnfitImageError as error:
                broken.append(example.id)
                named.append(f"{example.id} ({error})")
                continue
            except Exception:  # Pillow raises a dozen kinds for a file that is damaged
                broken.append(example.id)
                named.append(example.id)
                continue
            sizes.add(image.shape[:2])
            if len(sizes) == 1:
                pixels.add(image)
            labels.append(renumbered[example.label])
            ids.append(example.id)
            coarse.append(example.coarse)
            num_train += row < records.num_train
    where = f"config.data.name: {data.name!r}"
    if not data.skip_unreadable or not num_train:  # nothing to train on is no data set
        readable = f"{'/'.join(FORMATS)} of 8 bits a channel and up to {MAX_PIXELS // 10**6} million pixels"
        instead = "" if data.skip_unreadable else ", or config.data.skip_unreadable=True to leave them out"
        refuse(where, named, total, "images cannot be decoded", readable + instead)
    refuse(where, unlabelled, total, "images have no label", "a label for each image")
    _check_same_size(sizes)
    seen = [*ids, *broken]
    refuse(where, repeated(seen), len(set(seen)), "ids occur more than once", "unique ids")
    strange = [repr(name) for name in (*seen, *(records.class_names or ())) if _is_broken(name)]
    refuse(where, strange, len(seen), "ids or classes have names that are no text", "names in UTF-8")
    if data.superclasses:
        coarse = [_superclasses(data.superclasses, len(renumbered))[label] for label in labels]
    return Source(
        name=data.name,
        images=pixels.stacked(),
        labels=np.asarray(labels, np.int32),
        ids=np.asarray(ids, np.str_),
        num_classes=len(renumbered),
        num_train=num_train,
        coarse=None if None in coarse else np.asarray(coarse, np.int32),
        class_names=records.class_names and tuple(records.class_names[label] for label in renumbered),
        unreadable=tuple(broken),
    )


def _is_broken(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _check_memory(data: Data, total: int) -> None:
    """Finds what cannot fit before the first image is decoded, where sizes are known by then."""
    wanted, there = total * 3 * (data.image_size or 0) ** 2, memory()
    if data.memory_map is None and not data.classes and wanted > there:
        raise ConfigError(
            f"config.data.image_size: {data.image_size} makes {wanted / 1e9:.0f} GB of {total} images, and the memory"
            f" is {there / 1e9:.0f} GB; allowed: less, or a config.data.memory_map"
        )


def _check_same_size(found: set[tuple[int, ...]]) -> None:
    if not found:
        raise ConfigError("config.data.classes: no image has one of these labels; allowed: labels that occur")
    sizes = sorted(found)
    if len(sizes) > 1:
        few = ", ".join(f"{height}x{width}" for height, width in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
        raise ConfigError(f"config.data.image_size: None, but images differ in size ({few}); allowed: an integer >= 4")
