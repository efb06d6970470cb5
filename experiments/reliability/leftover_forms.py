"""45 forms in which an image may lie about on a server, for leftover_check.py; none knows how the search works.

A form writes all photos that it is given into a folder and nothing else that tells them: pixels come without ids, ids
without pixels.
"""

import base64
import gzip
import hashlib
import io
import json
import lzma
import pickle
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np


class Photo(NamedTuple):
    """An image of the data set."""

    id: str
    image: np.ndarray
    """uint8, H x W x 3: the pixels of the file."""
    file: bytes
    """The file itself, PNG or JPEG."""


class Form(NamedTuple):
    """A form in which photos are planted."""

    kind: str
    """What lies there: ``pixels``, ``files``, ``pictures`` (encoded anew, at another size), ``hashes`` or ``ids``."""
    plant: Callable[[Path, Sequence[Photo]], Any]
    """Writes photos into an empty folder; what a link leads to goes to ``outside(folder)``."""


def outside(folder: Path) -> Path:
    """A new folder that is not within the folder searched, which holds the folders of forms."""
    place = folder.parent.with_name(f"{folder.parent.name}-outside") / folder.name
    place.mkdir(parents=True)
    return place


def stacked(photos: Sequence[Photo]) -> np.ndarray:
    """The pixels of all photos, N x H x W x 3."""
    return np.stack([photo.image for photo in photos])


def encoded(photo: Photo, side: int, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A picture of a photo at another size."""
    file = io.BytesIO()
    _resized(photo, side).convert(mode).save(file, kind, **options)
    return file.getvalue()


def sequence(photos: Sequence[Photo], side: int, kind: str) -> bytes:
    """A file of several frames, of which the first shows nothing and each further one a photo."""
    from PIL import Image

    ramp, file = np.linspace(0, 255, side).astype(np.uint8), io.BytesIO()
    title = Image.fromarray(np.stack(np.broadcast_arrays(ramp[:, None], ramp, 128), -1).astype(np.uint8))
    title.save(file, kind, save_all=True, append_images=[_resized(photo, side) for photo in photos])
    return file.getvalue()


def _resized(photo: Photo, side: int) -> Any:
    from PIL import Image

    return Image.fromarray(photo.image).resize((side, side), Image.Resampling.BICUBIC)


def written(name: str, content: Callable[[Sequence[Photo]], bytes]) -> Callable[[Path, Sequence[Photo]], Any]:
    """A plant that writes one file."""
    return lambda folder, photos: (folder / name).write_bytes(content(photos))


def each(ending: str, content: Callable[[Photo], bytes]) -> Callable[[Path, Sequence[Photo]], Any]:
    """A plant that writes one file for each photo, named by a number."""

    def plant(folder: Path, photos: Sequence[Photo]) -> None:
        for number, photo in enumerate(photos):
            (folder / f"{number}.{ending}").write_bytes(content(photo))

    return plant


def saved(array: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Sequence[Photo]], Any]:
    """A plant that saves an array made of all pixels as ``.npy``."""
    return lambda folder, photos: np.save(folder / "images.npy", array(stacked(photos)))


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive, deflated."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return archive.getvalue()


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    """A tar archive; the mode is tarfile's, ``w`` or ``w:gz``."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as out:  # pyrefly: ignore
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def numbered(photos: Sequence[Photo]) -> dict[str, bytes]:
    """The files of photos, under names that do not tell them."""
    return {f"{number}.bin": photo.file for number, photo in enumerate(photos)}


def zstd(content: bytes) -> bytes:
    """A zstd frame."""
    import pyarrow

    return pyarrow.compress(content, codec="zstd", asbytes=True)


def base64_of(content: bytes) -> str:
    """Base64 in one line."""
    return base64.b64encode(content).decode()


def lines(texts: Sequence[str]) -> bytes:
    """A text file."""
    return "".join(f"{text}\n" for text in texts).encode()


def _link(folder: Path, photos: Sequence[Photo]) -> None:
    place = outside(folder)
    for name, content in numbered(photos).items():
        (place / name).write_bytes(content)
    (folder / "mnt_photos").symlink_to(place.absolute(), target_is_directory=True)


def _sqlite(folder: Path, photos: Sequence[Photo]) -> None:
    rows = [(encoded(photo, 128, "JPEG", quality=95),) for photo in photos]  # each over several pages of 4,096 bytes
    with closing(sqlite3.connect(folder / "app.db")) as base, base:
        base.execute("CREATE TABLE uploads (id INTEGER PRIMARY KEY, image BLOB)")
        base.executemany("INSERT INTO uploads (image) VALUES (?)", rows)


def _bfloat16(photos: Sequence[Photo]) -> bytes:
    bits = (stacked(photos) / np.float32(255)).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()  # rounds to nearest, ties to even


def _rgba(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images, np.full_like(images[..., :1], 255)], -1)


def _npz(folder: Path, photos: Sequence[Photo]) -> None:
    np.savez_compressed(folder / "images.npz", images=stacked(photos))


def _safetensors(folder: Path, photos: Sequence[Photo]) -> None:
    from safetensors.numpy import save_file

    save_file({"images": stacked(photos)}, folder / "batch.safetensors")


def _parquet(folder: Path, photos: Sequence[Photo]) -> None:
    import pyarrow
    import pyarrow.parquet

    column = [{"bytes": photo.file, "path": f"{number}.png"} for number, photo in enumerate(photos)]
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), folder / "train-00000-of-00001.parquet")


def _field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes or a message."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def example(photo: Photo) -> bytes:
    """A ``tf.train.Example`` with one feature, the file of the photo."""
    feature = _field(1, _field(1, photo.file))
    return _field(1, _field(1, _field(1, b"image") + _field(2, feature)))


def _masked_crc(content: bytes) -> bytes:
    """The checksum of a TFRecord: CRC-32C, rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _tfrecord(photos: Sequence[Photo]) -> bytes:
    records = [(struct.pack("<Q", len(content)), content) for content in map(example, photos)]
    return b"".join(size + _masked_crc(size) + content + _masked_crc(content) for size, content in records)


def _array_record(folder: Path, photos: Sequence[Photo]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "train.array_record-00000-of-00001"), "group_size:1")
    for photo in photos:
        writer.write(example(photo))
    writer.close()


def _pdf(photos: Sequence[Photo]) -> bytes:
    objects = []
    for number, photo in enumerate(photos, 1):
        height, width, _ = photo.image.shape
        stream = zlib.compress(photo.image.tobytes())
        head = f"{number} 0 obj\n<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent 8 "
        head += f"/ColorSpace /DeviceRGB /Filter /FlateDecode /Length {len(stream)} >>\nstream\n"
        objects.append(head.encode() + stream + b"\nendstream\nendobj\n")
    return b"%PDF-1.4\n" + b"".join(objects) + b"%%EOF\n"


def _page(photos: Sequence[Photo]) -> bytes:
    return lines([f'<img src="data:image/png;base64,{base64_of(encoded(photo, 64, "PNG"))}">' for photo in photos])


def _notebook(photos: Sequence[Photo]) -> bytes:
    data = [{"image/png": base64_of(encoded(photo, 96, "PNG")) + "\n", "text/plain": ["<Figure>"]} for photo in photos]
    outputs = [{"output_type": "display_data", "data": one, "metadata": {}} for one in data]
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": ["show()"], "outputs": outputs}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1).encode()


def _names(folder: Path, photos: Sequence[Photo]) -> None:
    for photo in photos:
        path = folder / "sidecars" / f"{photo.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"rating": 3}\n')


def _pixels(photos: Sequence[Photo]) -> bytes:
    return stacked(photos).tobytes()


FORMS: dict[str, Form] = {
    "link to a folder outside, five image files": Form("files", _link),
    "SQLite, JPEG of 128x128 as BLOB": Form("pictures", _sqlite),
    ".npy, uint8, channels last": Form("pixels", saved(lambda images: images)),
    ".npy, uint8, channels first": Form("pixels", saved(lambda images: images.transpose(0, 3, 1, 2))),
    ".npz, uint8, compressed": Form("pixels", _npz),
    "pickle of a list of arrays": Form(
        "pixels", written("cache.pkl", lambda photos: pickle.dumps([photo.image for photo in photos]))
    ),
    ".npy, float16 in [0,1]": Form("pixels", saved(lambda images: (images / 255).astype(np.float16))),
    ".npy, float32 in [0,1]": Form("pixels", saved(lambda images: images.astype(np.float32) / 255)),
    ".npy, float64 in [0,1]": Form("pixels", saved(lambda images: images / 255)),
    ".npy, float32 in 0..255": Form("pixels", saved(lambda images: images.astype(np.float32))),
    ".npy, float32 in [-1,1]": Form("pixels", saved(lambda images: images.astype(np.float32) / np.float32(127.5) - 1)),
    "raw bfloat16 in [0,1]": Form("pixels", written("batch.bin", _bfloat16)),
    "raw uint8, RGBA": Form("pixels", written("frames.raw", lambda photos: _rgba(stacked(photos)).tobytes())),
    "raw uint8, BGR": Form("pixels", written("frames.raw", lambda photos: stacked(photos)[..., ::-1].tobytes())),
    "safetensors, uint8": Form("pixels", _safetensors),
    "TFRecord of Examples, image files": Form("files", written("train.tfrecord-00000-of-00001", _tfrecord)),
    "array_record of Examples, image files": Form("files", _array_record),
    "tar.gz of image files": Form("files", written("backup.tar.gz", lambda photos: tarred(numbered(photos), "w:gz"))),
    "zip of image files": Form("files", written("backup.zip", lambda photos: zipped(numbered(photos)))),
    "zip of image files in a zip": Form(
        "files", written("backup.zip", lambda photos: zipped({"old.zip": zipped(numbered(photos))}))
    ),
    "gzip of pixels": Form("pixels", written("images.gz", lambda photos: gzip.compress(_pixels(photos)))),
    "xz of pixels": Form("pixels", written("images.xz", lambda photos: lzma.compress(_pixels(photos)))),
    "zstd of pixels": Form("pixels", written("images.zst", lambda photos: zstd(_pixels(photos)))),
    "zlib streams of pixels within a PDF": Form("pixels", written("report.pdf", _pdf)),
    "Parquet, image files": Form("files", _parquet),
    "PNG of 64x64": Form("pictures", each("png", lambda photo: encoded(photo, 64, "PNG"))),
    "JPEG of 96x96": Form("pictures", each("jpg", lambda photo: encoded(photo, 96, "JPEG"))),
    "WebP of 128x128": Form("pictures", each("webp", lambda photo: encoded(photo, 128, "WEBP"))),
    "grey PNG of 32x32": Form("pictures", each("png", lambda photo: encoded(photo, 32, "PNG", "L"))),
    "TIFF of 64x64, pages after the first": Form(
        "pictures", written("scan.tif", lambda photos: sequence(photos, 64, "TIFF"))
    ),
    "GIF of 64x64, frames after the first": Form(
        "pictures", written("preview.gif", lambda photos: sequence(photos, 64, "GIF"))
    ),
    "data: URIs in HTML, PNG": Form("pictures", written("report.html", _page)),
    "notebook, PNG in base64": Form("pictures", written("look.ipynb", _notebook)),
    "base64 of pixels, JSON": Form(
        "pixels",
        written("requests.json", lambda photos: json.dumps([base64_of(p.image.tobytes()) for p in photos]).encode()),
    ),
    "base64 of JPEG, JSON lines": Form(
        "pictures",
        written(
            "requests.jsonl",
            lambda photos: lines([json.dumps({"image": {"b64": base64_of(encoded(p, 64, "JPEG"))}}) for p in photos]),
        ),
    ),
    "hex of pixels": Form(
        "pixels", written("dump.txt", lambda photos: lines([photo.image.tobytes().hex() for photo in photos]))
    ),
    "hex of JPEG": Form(
        "pictures", written("dump.txt", lambda photos: lines([encoded(photo, 64, "JPEG").hex() for photo in photos]))
    ),
    "CSV of pixels as decimal numbers": Form(
        "pixels", written("train.csv", lambda photos: lines([",".join(map(str, p.image.flat)) for p in photos]))
    ),
    "JSON lists of pixels": Form(
        "pixels",
        written("request.json", lambda photos: json.dumps({"instances": stacked(photos).tolist()}).encode()),
    ),
    "hashes, SHA-1 of files, bytes": Form(
        "hashes", written("index.bin", lambda photos: b"".join(hashlib.sha1(photo.file).digest() for photo in photos))
    ),
    "hashes, SHA-256 of pixels, hex": Form(
        "hashes",
        written("seen.txt", lambda photos: lines([hashlib.sha256(p.image.tobytes()).hexdigest() for p in photos])),
    ),
    "ids in a log": Form(
        "ids", written("app.log", lambda photos: lines([f"12:00:01 INFO read {photo.id}: ok" for photo in photos]))
    ),
    "ids, UTF-16": Form(
        "ids", written("export.txt", lambda photos: "".join(f"{photo.id}\r\n" for photo in photos).encode("utf-16"))
    ),
    "ids, percent-encoded in an access log": Form(
        "ids",
        written(
            "access.log", lambda photos: lines([f'"GET /image?id={quote(p.id, "")} HTTP/1.1" 200' for p in photos])
        ),
    ),
    "ids in names of files": Form("ids", _names),
}
"""45 forms by name."""
