"""CIFAR-10 and CIFAR-100, downloaded and prepared without TensorFlow.

TFDS's own builders need TensorFlow to prepare a data set. These keep the name, version, features, ids
and row order, so ``tfds.builder("cifar10")`` can read the result. Importing this module imports TFDS.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.registered import skip_registration
from tensorflow_datasets.core.units import Size
from tensorflow_datasets.image_classification import cifar as stock

from ltu_jax.data.tfds import prepare_builder
from ltu_jax.setting import ConfigError
from ltu_jax.types import Progress, silent


class Archive(NamedTuple):
    """Address, checksum and layout of an archive."""

    url: str
    size: int  # bytes
    sha256: str
    folder: str
    files: dict[str, tuple[str, ...]]  # by split
    label_names: dict[str, str]  # label feature to its file of names, in the order of the label bytes


ARCHIVES = {
    "cifar10": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        size=170052171,
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder="cifar-10-batches-bin",
        files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        label_names={"label": "batches.meta.txt"},
    ),
    "cifar100": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        size=168513733,
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder="cifar-100-binary",
        files={"train": ("train.bin",), "test": ("test.bin",)},
        label_names={"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
}


def prepare_cifar(name: str, root: Path, progress: Progress = silent) -> Path:
    """Downloads and prepares ``cifar10`` or ``cifar100``; returns the folder ``root/name/VERSION``.

    The archive is kept in ``root/downloads``.

    Raises:
      ConfigError: if the archive cannot be fetched or has a wrong checksum.
    """
    builder = {"cifar10": Cifar10, "cifar100": Cifar100}[name]
    return prepare_builder(builder(data_dir=root, file_format="array_record"), progress)


class _FromArchive:
    """What differs from TFDS's builders: ``tarfile``, NumPy and Pillow instead of TensorFlow."""

    name: str
    info: Any
    data_dir: str

    @property
    def url_infos(self) -> dict[str, UrlInfo]:
        """The checksum that TFDS checks the download against."""
        archive = ARCHIVES[self.name]
        return {archive.url: UrlInfo(size=Size(archive.size), checksum=archive.sha256, filename=Path(archive.url).name)}

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict]]]:
        archive = ARCHIVES[self.name]
        contents = _read_tar(_fetch(self.name, archive, dl_manager, Path(self.data_dir).parents[1] / "downloads"))
        for feature, file in archive.label_names.items():
            lines = contents[f"{archive.folder}/{file}"].decode().splitlines()
            self.info.features[feature].names = [line for line in lines if line]
        return {
            split: self._generate_examples(split, b"".join(contents[f"{archive.folder}/{file}"] for file in files))
            for split, files in archive.files.items()
        }

    def _generate_examples(self, split: str, content: bytes) -> Iterator[tuple[int, dict]]:
        features = list(ARCHIVES[self.name].label_names)
        rows = np.frombuffer(content, np.uint8).reshape(-1, len(features) + 3 * 32 * 32)
        for index, row in enumerate(rows):
            labels, pixels = row[: len(features)], row[len(features) :].reshape(3, 32, 32).transpose(1, 2, 0)
            record = {feature: int(label) for feature, label in zip(features, labels, strict=True)}
            # The index is the key, as in the stock builder: TFDS's row order is a hash of it.
            yield index, record | {"id": f"{split}_{index:05d}", "image": _png(pixels)}


# TFDS allows each name only once. Its own builders are imported above, outside of the block: importing one
# imports them all, and inside it none would be registered.
with skip_registration():

    class Cifar10(_FromArchive, stock.Cifar10):
        """CIFAR-10, prepared without TensorFlow."""

    class Cifar100(_FromArchive, stock.Cifar100):
        """CIFAR-100, prepared without TensorFlow."""


def _fetch(name: str, archive: Archive, dl_manager: tfds.download.DownloadManager, downloads: Path) -> Path:
    import requests

    file = Path(archive.url).name
    allowed = (
        f"allowed: a working network, {file} put into {downloads / 'manual'},"
        f" or a config.data.data_dir that holds {name} prepared"
    )
    is_here = (downloads / "manual" / file).exists() or any(downloads.rglob(f"*{file.split('.')[0]}*.INFO"))
    try:
        if not is_here:
            # TFDS retries for minutes; without a network, fail at once.
            with requests.get(archive.url, stream=True, timeout=10) as response:
                response.raise_for_status()
        return Path(dl_manager.download(archive.url))
    except NonMatchingChecksumError as error:
        raise ConfigError(
            f"config.data.name: {name!r}, as fetched from {archive.url}, has a wrong checksum"
            f" (expected SHA-256 {archive.sha256}); {allowed}"
        ) from error
    except (OSError, tfds.download.DownloadError) as error:  # every error of requests is an OSError
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"config.data.name: {name!r} could not be fetched from {archive.url}"
            f" ({type(error).__name__}: {reason}); {allowed}"
        ) from error


def _read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar)
        return {name: file.read() for name, file in files if file is not None}


def _png(pixels: np.ndarray) -> io.BytesIO:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    buffer.seek(0)
    return buffer
