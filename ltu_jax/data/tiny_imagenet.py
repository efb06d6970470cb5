"""Tiny-ImageNet at 64x64: the builder that TFDS lacks. Importing this module imports TFDS."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.registered import skip_registration

from ltu_jax.data.records import UnfitImageError, opened
from ltu_jax.data.tfds import prepare_builder
from ltu_jax.safe_reading import read_bytes
from ltu_jax.setting import ConfigError
from ltu_jax.types import Progress, silent

FOLDER = "tiny-imagenet-200"


def prepare_tiny_imagenet(root: Path, progress: Progress = silent) -> Path:
    """Prepares ``root/tiny_imagenet/VERSION`` from the standard folder, and returns its path.

    Args:
      root: holds ``tiny-imagenet-200`` itself or in ``downloads/manual``; is written to.
      progress: reports the progress.

    Raises:
      ConfigError: if the folder is missing or incomplete, or an image cannot be read.
    """
    places = [root, root / "downloads" / "manual"]
    manual_dir = next((place for place in places if (place / FOLDER).is_dir()), None)
    if manual_dir is None:
        raise ConfigError(
            f"config.data.data_dir: {root} has no tiny_imagenet; allowed: unpack tiny-imagenet-200.zip"
            f" (cs231n.stanford.edu) there, so that {root / FOLDER / 'wnids.txt'} exists"
        )
    for part in ("wnids.txt", "train", "val/images", "val/val_annotations.txt"):
        if not (manual_dir / FOLDER / part).exists():
            raise ConfigError(
                f"config.data.data_dir: {manual_dir / FOLDER} lacks {part};"
                " allowed: the standard tiny-imagenet-200 folder, whole"
            )
    return prepare_builder(TinyImagenet(data_dir=root, file_format="array_record"), progress, manual_dir)


with skip_registration():  # TFDS allows each name only once

    class TinyImagenet(tfds.core.GeneratorBasedBuilder):
        """200 classes of ImageNet, 500 training and 50 validation images each, 64x64 pixels.

        The labels are the sorted WordNet ids. The test images have no labels and are left out.
        """

        VERSION = tfds.core.Version("1.0.0")
        MANUAL_DOWNLOAD_INSTRUCTIONS = f"Unpack tiny-imagenet-200.zip, so that {FOLDER}/ stands in manual_dir."

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="Tiny-ImageNet: 200 classes, 64x64 pixels.",
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                        "label": tfds.features.ClassLabel(),  # the names come from wnids.txt
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="http://cs231n.stanford.edu/",
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, dict]]]:
            raw = Path(dl_manager.manual_dir) / FOLDER
            features: Any = self.info.features
            features["label"].names = sorted((raw / "wnids.txt").read_text().split())
            return {
                "train": self._generate_examples(_train(raw)),
                "validation": self._generate_examples(_validation(raw)),
            }

        def _generate_examples(self, files: Iterator[tuple[Path, str]]) -> Iterator[tuple[str, dict]]:
            for path, wnid in files:
                yield path.stem, {"id": path.stem, "image": _rgb(path), "label": wnid}


def _train(raw: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(raw.glob("train/*/images/*.JPEG")):
        yield path, path.parts[-3]


def _validation(raw: Path) -> Iterator[tuple[Path, str]]:
    for line in (raw / "val" / "val_annotations.txt").read_text().splitlines():
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if not name or not wnid or Path(name).name != name or "\0" in name:
            raise ConfigError(
                f"config.data.data_dir: {raw}/val/val_annotations.txt: {line!r}; allowed: NAME, a tab, WNID"
            )
        yield raw / "val" / "images" / name, wnid


def _rgb(path: Path) -> io.BytesIO:
    """The file as it is if it is RGB, else its pixels as an RGB PNG, which is lossless."""
    try:
        content = read_bytes(path)
        with warnings.catch_warnings(action="ignore"), opened(content) as picture:
            if picture.mode == "RGB":
                return io.BytesIO(content)
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, format="PNG")
    except Exception as error:  # Pillow raises a dozen kinds for a file that is damaged
        why = f" ({error})" if isinstance(error, UnfitImageError) else ""
        raise ConfigError(f"config.data.data_dir: {path} cannot be decoded{why}; allowed: a JPEG") from error
    buffer.seek(0)
    return buffer
