"""Images in one folder per class, or in such folders within ``train/`` and ``test/``."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.data.records import Example, Records, first_five, places, refuse
from ltu_jax.setting import ConfigError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm")
SUFFIXES += (".tif", ".tiff", ".webp")
"""Names of files of ``records.FORMATS``; a GIF or TIFF of several pictures counts as its first."""

_KINDS = ", ".join(suffix[1:] for suffix in SUFFIXES if suffix != ".png")
_ALLOWED = f"allowed: a folder with CLASS/*.png, or train/CLASS/*.png and test/CLASS/*.png; also {_KINDS}"


def read_folder(data_dir: str | None, class_names: Sequence[str] = ()) -> Records:
    """Lists the images; each is read when it is decoded.

    The classes are ``class_names``, else the sorted names of the folders with at least one training
    image. Pass ``class_names`` for a sample that may lack a class: a missing folder would shift the
    labels of all that follow. An id is the path relative to ``data_dir``, with forward slashes. Files of
    other kinds are left out, which is logged; hidden files are ignored.

    Args:
      data_dir: ``data_dir/CLASS/*.png``, or ``data_dir/train/CLASS/*.png`` and, if there is a test
        part, ``data_dir/test/CLASS/*.png``.
      class_names: all classes of the model in order; a class may have no images.

    Returns:
      The records, sorted by part, class and file name.

    Raises:
      ConfigError: if the folder does not exist, holds no image or a link that leads out of it, if a class
        folder is not in ``class_names``, or, without ``class_names``, if a test class has no training images.
    """
    if not data_dir:
        raise ConfigError(f"config.data.data_dir: {data_dir!r}; {_ALLOWED}")
    root = Path(os.path.expanduser(data_dir))
    has_parts = (root / "train").is_dir()
    train = _images_by_class(root / "train" if has_parts else root)
    test = _images_by_class(root / "test") if has_parts else {}
    if not train:
        raise ConfigError(f"config.data.data_dir: {data_dir!r} holds no images by class; {_ALLOWED}")
    if class_names:
        found = sorted({*train, *test})
        unknown = [repr(name) for name in found if name not in class_names]
        what = "folders are not in config.data.class_names"
        refuse(f"config.data.data_dir: {data_dir!r}", unknown, len(found), what, first_five(class_names))
    elif unknown := sorted(set(test) - set(train)):
        raise ConfigError(
            f"config.data.data_dir: {data_dir!r} has test images of {unknown[0]!r} and no training images;"
            f" allowed: {', '.join(sorted(train))}, or all of the model's classes in config.data.class_names"
        )
    names = tuple(class_names) or tuple(sorted(train))
    labels = {name: label for label, name in enumerate(names)}
    files = [(path, labels[name]) for part in (train, test) for name in sorted(part) for path in part[name]]
    names_in = [path.relative_to(root).as_posix() for path, _ in files]
    leaving = [repr(name) for name, place in zip(names_in, places(root, names_in), strict=True) if place is None]
    refuse(f"config.data.data_dir: {data_dir!r}", leaving, len(files), "images are links that leave it", "links within")
    num_train = sum(map(len, train.values()))
    examples = (Example(path, label, name) for (path, label), name in zip(files, names_in, strict=True))
    return Records(examples, len(names), num_train, len(files) - num_train, names)


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Class name to its sorted image files; classes without images are left out."""
    if not folder.is_dir():
        return {}
    images: dict[str, list[Path]] = {}
    others: list[str] = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
        if found := [file for file in files if file.suffix.lower() in SUFFIXES]:
            images[path.name] = found
        others += [f"{path.name}/{file.name}" for file in files if file.suffix.lower() not in SUFFIXES]
    if others:
        left_out = "%s: left out, %d files whose names are not those of images: %s"
        logging.getLogger(__name__).warning(left_out, folder, len(others), first_five(others))
    return images
