"""The forms hold what they say, read back by other means than they were written."""

import base64
import gzip
import hashlib
import io
import json
import lzma
import pickle
import re
import sqlite3
import tarfile
import zipfile
import zlib
from contextlib import closing

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from experiments.reliability import leftover_forms
from experiments.reliability.leftover_check import Answer, judged
from experiments.reliability.leftover_forms import FORMS, Photo

SHAPE = (2, 24, 24, 3)


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    made = []
    for number in range(SHAPE[0]):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize(SHAPE[1:3]).save(file, "PNG")
        made.append(Photo(f"train/cat/IMG_{number}.png", np.asarray(Image.open(file)), file.getvalue()))
    return made


def planted(form, photos, folder):
    place = folder / "planted" / "00"
    place.mkdir(parents=True)
    form.plant(place, photos)
    return place


def only(folder):
    (path,) = [path for path in folder.rglob("*") if path.is_file()]
    return path.read_bytes()


def loaded(folder):
    return np.load(folder / "images.npy")


def raw(folder, dtype=np.uint8, channels=3):
    return np.frombuffer(only(folder), dtype).reshape(*SHAPE[:3], channels)


def as_pixels(content):
    return np.frombuffer(content, np.uint8).reshape(SHAPE)


def safetensors_body(content):
    return content[8 + int.from_bytes(content[:8], "little") :]


def csv(text):
    return np.array([line.split(",") for line in text.splitlines()]).astype(int).reshape(SHAPE)


PIXELS = {
    ".npy, uint8, channels last": loaded,
    ".npy, uint8, channels first": lambda folder: loaded(folder).transpose(0, 2, 3, 1),
    ".npz, uint8, compressed": lambda folder: np.load(folder / "images.npz")["images"],
    "pickle of a list of arrays": lambda folder: pickle.loads(only(folder)),
    ".npy, float16 in [0,1]": lambda folder: loaded(folder).astype(float) * 255,
    ".npy, float32 in [0,1]": lambda folder: loaded(folder) * 255,
    ".npy, float64 in [0,1]": lambda folder: loaded(folder) * 255,
    ".npy, float32 in 0..255": loaded,
    ".npy, float32 in [-1,1]": lambda folder: (loaded(folder) + 1) * 127.5,
    "raw bfloat16 in [0,1]": lambda folder: raw(folder, ml_dtypes.bfloat16).astype(float) * 255,
    "raw uint8, RGBA": lambda folder: raw(folder, channels=4)[..., :3],
    "raw uint8, BGR": lambda folder: raw(folder)[..., [2, 1, 0]],
    "safetensors, uint8": lambda folder: as_pixels(safetensors_body(only(folder))),
    "gzip of pixels": lambda folder: as_pixels(gzip.decompress(only(folder))),
    "xz of pixels": lambda folder: as_pixels(lzma.decompress(only(folder))),
    "zlib streams of pixels within a PDF": lambda folder: as_pixels(
        b"".join(
            zlib.decompress(part) for part in re.findall(rb"stream\n(\x78.*?)\nendstream", only(folder), re.DOTALL)
        )
    ),
    "base64 of pixels, JSON": lambda folder: as_pixels(b"".join(map(base64.b64decode, json.loads(only(folder))))),
    "hex of pixels": lambda folder: as_pixels(bytes.fromhex(only(folder).decode())),
    "CSV of pixels as decimal numbers": lambda folder: csv(only(folder).decode()),
    "JSON lists of pixels": lambda folder: json.loads(only(folder))["instances"],
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_those_of_the_photos(name, photos, tmp_path):
    folder = planted(FORMS[name], photos, tmp_path)
    limit = 1 if "bfloat16" in name else 0.1
    np.testing.assert_allclose(PIXELS[name](folder), np.stack([p.image for p in photos]), atol=limit)


def from_tar(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [archive.extractfile(entry).read() for entry in archive]


def from_zip(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(name) for name in archive.namelist()]


def from_parquet(folder):
    import pyarrow.parquet

    return [row["bytes"] for row in pyarrow.parquet.read_table(next(folder.iterdir()))["image"].to_pylist()]


def from_array_record(folder):
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(next(folder.iterdir())))
    found = reader.read_all()
    reader.close()
    return [record[record.index(b"\x89PNG") :] for record in found]


def from_tfrecord(content):
    while content:
        size = int.from_bytes(content[:8], "little")
        record, content = content[12 : 12 + size], content[16 + size :]
        yield record[record.index(b"\x89PNG") :]


FILES = {
    "link to a folder outside, five image files": lambda folder: [
        path.read_bytes() for path in sorted((folder / "mnt_photos").iterdir())
    ],
    "TFRecord of Examples, image files": lambda folder: list(from_tfrecord(only(folder))),
    "array_record of Examples, image files": from_array_record,
    "tar.gz of image files": lambda folder: from_tar(only(folder)),
    "zip of image files": lambda folder: from_zip(only(folder)),
    "zip of image files in a zip": lambda folder: from_zip(*from_zip(only(folder))),
    "Parquet, image files": from_parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_those_of_the_photos(name, photos, tmp_path):
    assert FILES[name](planted(FORMS[name], photos, tmp_path)) == [photo.file for photo in photos]


def test_the_link_leads_out_of_what_is_searched(photos, tmp_path):
    folder = planted(FORMS["link to a folder outside, five image files"], photos, tmp_path)
    assert not (folder / "mnt_photos").resolve().is_relative_to(folder.parent)


def from_sqlite(folder):
    with closing(sqlite3.connect(folder / "app.db")) as base:
        return [content for (content,) in base.execute("SELECT image FROM uploads")]


def frames(content):
    picture = Image.open(io.BytesIO(content))
    for number in range(1, picture.n_frames):
        picture.seek(number)
        yield np.asarray(picture.convert("RGB"))


def each_file(folder):
    return [path.read_bytes() for path in sorted(folder.iterdir())]


PICTURES = {
    "SQLite, JPEG of 128x128 as BLOB": from_sqlite,
    "PNG of 64x64": each_file,
    "JPEG of 96x96": each_file,
    "WebP of 128x128": each_file,
    "grey PNG of 32x32": each_file,
    "TIFF of 64x64, pages after the first": lambda folder: frames(only(folder)),
    "GIF of 64x64, frames after the first": lambda folder: frames(only(folder)),
    "data: URIs in HTML, PNG": lambda folder: map(base64.b64decode, re.findall(rb'base64,([^"]+)"', only(folder))),
    "notebook, PNG in base64": lambda folder: [
        base64.b64decode(one["data"]["image/png"]) for one in json.loads(only(folder))["cells"][0]["outputs"]
    ],
    "base64 of JPEG, JSON lines": lambda folder: [
        base64.b64decode(json.loads(line)["image"]["b64"]) for line in only(folder).splitlines()
    ],
    "hex of JPEG": lambda folder: [bytes.fromhex(line) for line in only(folder).decode().split()],
}


def check_pictures(found, photos, grey=False):
    """Pictures of another size show the photos: near them when brought back to their size."""
    found = [one if isinstance(one, np.ndarray) else np.asarray(Image.open(io.BytesIO(one))) for one in found]
    assert len(found) == len(photos)
    for shown, photo in zip(found, photos, strict=True):
        assert shown.shape[:2] != photo.image.shape[:2]
        mode = "L" if grey else "RGB"
        wanted = np.asarray(Image.fromarray(photo.image).convert(mode), float)
        back = np.asarray(Image.fromarray(shown).resize(SHAPE[1:3]).convert(mode), float)
        assert np.abs(back - wanted).mean() < 10


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_the_photos(name, photos, tmp_path):
    check_pictures(PICTURES[name](planted(FORMS[name], photos, tmp_path)), photos, "grey" in name)


def test_blobs_are_too_long_for_a_page_of_sqlite(photos, tmp_path):
    rng = np.random.default_rng(0)
    sharp = [Photo(p.id, rng.integers(0, 256, p.image.shape, np.uint8), p.file) for p in photos]
    blobs = from_sqlite(planted(FORMS["SQLite, JPEG of 128x128 as BLOB"], sharp, tmp_path))
    assert min(map(len, blobs)) > 4096


def test_hashes_and_ids(photos, tmp_path):
    wanted = {
        "hashes, SHA-1 of files, bytes": b"".join(hashlib.sha1(p.file).digest() for p in photos),
        "hashes, SHA-256 of pixels, hex": b"".join(
            hashlib.sha256(p.image.tobytes()).hexdigest().encode() + b"\n" for p in photos
        ),
        "ids, UTF-16": "".join(f"{p.id}\r\n" for p in photos).encode("utf-16"),
    }
    for number, (name, content) in enumerate(wanted.items()):
        assert only(planted(FORMS[name], photos, tmp_path / str(number))) == content
    log = only(planted(FORMS["ids in a log"], photos, tmp_path / "log"))
    assert all(photo.id.encode() in log for photo in photos)
    encoded = only(planted(FORMS["ids, percent-encoded in an access log"], photos, tmp_path / "percent"))
    assert b"id=train%2Fcat%2FIMG_0.png " in encoded and b"train/" not in encoded
    names = planted(FORMS["ids in names of files"], photos, tmp_path / "names")
    assert (names / "sidecars/train/cat/IMG_1.png.json").is_file()


def test_zstd_is_read_by_another_reader(photos, tmp_path):
    import pyarrow

    content = only(planted(FORMS["zstd of pixels"], photos, tmp_path))
    wanted = np.stack([photo.image for photo in photos]).tobytes()
    assert pyarrow.input_stream(io.BytesIO(content), compression="zstd").read() == wanted


def test_checksums_of_records_are_those_of_the_format():
    masked = int.from_bytes(leftover_forms._masked_crc(b"123456789"), "little")
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (turned >> 17 | turned << 15) & 0xFFFFFFFF == 0xE3069283  # the check value of CRC-32C (Castagnoli)


def test_45_forms_and_only_ids_come_with_ids(photos, tmp_path):
    assert len(FORMS) == 45
    for number, form in enumerate(FORMS.values()):
        folder = planted(form, photos, tmp_path / str(number))
        paths = [path for path in folder.rglob("*") if path.is_file()]
        if form.kind != "ids":
            assert not [path for path in paths if "IMG_" in path.name or b"IMG_" in path.read_bytes()]
    assert {form.kind for form in FORMS.values()} == {"pixels", "files", "pictures", "hashes", "ids"}


@pytest.mark.parametrize(
    ("status", "line", "verdict"),
    [
        (1, "a.bin: pixels of 2 images: one.png, two.png", "found 2 of 2"),
        (1, "a.bin: pixels of 1 images: two.png", "PARTLY 1 of 2"),
        (3, "not searched: a.bin: encrypted", "named"),
        (0, "note: 1 files could not be searched: a.bin: Parquet", "named"),
        (0, "note: 1 files could not be searched: b.bin: Parquet", "MISSED"),
        (0, "found: none of 2", "MISSED"),
        (2, "error: --leftovers: no", "FAILED"),
    ],
)
def test_verdicts(status, line, verdict):
    answer = Answer(status, ["reading folder: 60 steps", line])
    assert judged(answer, ["a.bin"], ["one.png", "two.png"], alone=True)[0] == verdict
