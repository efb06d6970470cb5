"""Finds and reads data sets that TFDS has prepared, by random access and without TensorFlow."""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ltu_jax.config import MOST_CLASSES
from ltu_jax.data.records import Example, Records
from ltu_jax.safe_reading import read_json
from ltu_jax.setting import ConfigError
from ltu_jax.types import Progress

_CHUNK = 1000


def find_prepared(root: Path, name: str) -> Path | None:
    """The newest prepared version, ``root/name/VERSION``; ``name`` may be ``name/config``.

    It looks at folders only: no import of TFDS, and TFDS need not know the data set.
    """
    versions = [path for path in (root / name).glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    prepared = [path for path in versions if (path / "dataset_info.json").is_file()]
    return max(prepared, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def prepared_names(root: Path) -> list[str]:
    """Names of the data sets prepared in ``root``."""
    return sorted(path.name for path in root.glob("*") if find_prepared(root, path.name))


def registered_names() -> list[str]:
    """Names of the data sets that TFDS has code for."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def prepare_builder(builder: Any, progress: Progress, manual_dir: Path | None = None) -> Path:
    """Runs a builder and returns the folder of the prepared version. A terminal shows TFDS's progress bars.

    Args:
      builder: a ``tfds.core.GeneratorBasedBuilder`` that writes ``array_record``.
      progress: reports the progress where there is no terminal.
      manual_dir: folder of raw files put there by the user; None means TFDS's default.

    Raises:
      ConfigError: from the builder, or if a file cannot be read or written.
    """
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(
        try_download_gcs=False, force_checksums_validation=True, manual_dir=manual_dir and str(manual_dir)
    )
    bars = sys.stderr.isatty()
    reporting = contextlib.nullcontext(lambda n: None) if bars else progress(f"preparing {builder.name}", 1)
    if not bars:
        tfds.disable_progress_bar()
    try:
        # TFDS announces itself on standard output, which is reserved for results.
        with reporting as advance, contextlib.redirect_stdout(sys.stderr if bars else io.StringIO()):
            builder.download_and_prepare(download_config=config)
            advance(1)
    except OSError as error:
        raise ConfigError(
            f"config.data.data_dir: {builder.name} cannot be prepared in {builder.data_dir} ({error});"
            " allowed: raw data that can be read, and a folder that can be written"
        ) from error
    finally:
        if not bars:
            tfds.enable_progress_bar()
    return Path(builder.data_dir)


def read_prepared(version: Path) -> Records:
    """Opens a prepared data set: the split ``train``, then ``test`` or, without it, ``validation``.

    The ids are the feature ``id`` if there is one, else ``{split}_{row:06d}`` in the order of the stored
    rows, which is stable as long as the prepared files are the same. ``coarse`` is the feature
    ``coarse_label`` if there is one.

    Args:
      version: folder ``name/VERSION`` with ``dataset_info.json``.

    Raises:
      ConfigError: if it does not hold labelled images of 8 bits per channel, has no training split, or is
        stored in a format without random access.
    """
    import tensorflow_datasets as tfds

    _check_described(version)
    try:
        builder: Any = tfds.builder_from_directory(version)
    except Exception as error:  # TFDS raises whatever its parsers do
        raise _damaged(version, error) from error
    features, splits = builder.info.features, builder.info.splits
    image, label = (features[name] if name in features else None for name in ("image", "label"))
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    num_classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    if not is_image or num_classes is None:
        raise ConfigError(
            f"config.data.name: {builder.name!r} is not an image classification data set;"
            " allowed: features 'image' (uint8) and 'label' (a class)"
        )
    if num_classes > MOST_CLASSES:  # TFDS would allocate a name for each
        raise ConfigError(f"config.data.name: {builder.name!r} claims {num_classes} classes; allowed: {MOST_CLASSES}")
    names = ["train", *[name for name in ("test", "validation") if name in splits][:1]]
    if "train" not in splits:
        raise ConfigError(
            f"config.data.name: {builder.name!r} has splits {sorted(splits)}; allowed: one called 'train'"
        )
    try:
        skip = {"image": tfds.decode.SkipDecoding()}
        parts = {name: builder.as_data_source(split=name, decoders=skip) for name in names}
        names_of_classes = tuple(features["label"].names)
    except NotImplementedError as error:
        raise ConfigError(
            f"config.data.data_dir: {version} is stored as {builder.info.file_format.value};"
            " allowed: prepared with file_format='array_record'"
        ) from error
    except Exception as error:  # the reader finds missing and truncated files
        raise _damaged(version, error) from error
    sizes = [len(part) for part in parts.values()]
    return Records(_examples(parts, version), num_classes, sizes[0], sum(sizes[1:]), names_of_classes)


def _check_described(version: Path) -> None:
    """Refuses descriptions that make TFDS import a module or read outside of the folder."""
    allowed = "allowed: what TFDS prepared"
    try:
        features = read_json(version / "features.json") if (version / "features.json").exists() else {}
        info = read_json(version / "dataset_info.json")
    except (OSError, ValueError) as error:
        raise _damaged(version, error) from error
    for name in _strings(features, ("pythonClassName", "python_class_name", "type")):
        if "." in name and not name.startswith("tensorflow_datasets.core.features."):
            raise ConfigError(
                f"config.data.data_dir: {version} asks for the feature {name!r}, which is not run; {allowed}"
            )
    for name in _strings(info, ("filepathTemplate", "filepath_template", "name")):
        if "/" in name or "\\" in name or name == "..":
            raise ConfigError(f"config.data.data_dir: {version} names the file {name!r}, which leaves it; {allowed}")


def _strings(tree: Any, names: tuple[str, ...]) -> Iterator[str]:
    """The text values of the keys ``names``, at any depth."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield from _strings(value, names)
        elif isinstance(value, str) and key in names:
            yield value


def _damaged(version: Path, error: Exception) -> ConfigError:
    why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ConfigError(
        f"config.data.data_dir: {version} cannot be read ({why}); allowed: a data set that TFDS prepared"
    )


def _examples(parts: dict[str, Any], version: Path) -> Iterator[Example]:
    chunks = [
        (split, range(start, min(start + _CHUNK, len(part))))
        for split, part in parts.items()
        for start in range(0, len(part), _CHUNK)
    ]
    try:
        with _quiet_reader():
            for split, rows in chunks:
                for row, record in zip(rows, parts[split].__getitems__(list(rows)), strict=True):
                    name = record.get("id", f"{split}_{row:06d}")
                    name = name.decode() if isinstance(name, bytes) else str(name)
                    coarse = record.get("coarse_label")
                    yield Example(record["image"], int(record["label"]), name, None if coarse is None else int(coarse))
    except Exception as error:  # a truncated file, a damaged record
        raise _damaged(version, error) from error


@contextlib.contextmanager
def _quiet_reader() -> Iterator[None]:
    """Drops the reader's error line about the group size: it concerns writing, and reading works."""

    def is_other(record: logging.LogRecord) -> bool:
        return "group size" not in str(record.msg)

    logger = logging.getLogger("absl")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
