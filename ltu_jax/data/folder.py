"""Images in one folder per class, or in such folders within ``train/`` and ``test/``."""

import os
from collections.abc import Sequence
from pathlib import Path

from ltu_jax.data.records import Example, Records, first_five, places, refuse
from ltu_jax.setting import ConfigError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

_ALLOWED = "allowed: a folder with CLASS/*.png (bmp, jpg, jpeg, webp), or train/CLASS/*.png and test/CLASS/*.png"


def read_folder(data_dir: str | None, class_names: Sequence[str] = ()) -> Records:
    """Lists the images; each is read when it is decoded.

    The classes are ``class_names``, else the sorted names of the folders with at least one training
    image. Pass ``class_names`` for a sample that may lack a class: a missing folder would shift the
    labels of all that follow. An id is the path relative to ``data_dir``, with forward slashes. Files of
    other kinds and hidden files are ignored.

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
    classes = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = {path.name: sorted(filter(_is_image, path.iterdir())) for path in classes}
    return {name: files for name, files in images.items() if files}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
