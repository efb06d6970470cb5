"""The new forms hold what they say, read back by other means than they were written."""

import base64
import email
import email.policy
import gzip
import io
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import pyarrow
import pyarrow.feather
import pytest

from experiments.reliability.leftover_forms import FORMS as KNOWN
from experiments.reliability.leftover_forms_new import FORMS, PASSWORD
from tests.experiments.test_leftover_forms import (
    SHAPE,
    as_pixels,
    check_pictures,
    each_file,
    frames,
    from_tar,
    from_zip,
    loaded,
    only,
    photos,  # noqa: F401
    planted,
    raw,
)


def from_segment(content):
    while content:
        size = int.from_bytes(content[8:12], "big")
        record, content = content[12 : 12 + size], content[12 + size :]
        if not record.startswith(b"{"):
            yield pyarrow.input_stream(io.BytesIO(record), compression="zstd").read()


def from_c(text):
    return bytes(int(one, 16) for one in re.findall(r"0x([0-9a-f]{2})", text))


PIXELS = {
    "base85 of pixels": lambda folder: as_pixels(b"".join(map(base64.b85decode, only(folder).split()))),
    "zstd frames of pixels amid a log": lambda folder: as_pixels(b"".join(from_segment(only(folder)))),
    "raw float32 in [0,1], big-endian": lambda folder: raw(folder, ">f4") * 255,
    ".npy, uint16, 257 times the pixels": lambda folder: loaded(folder) / 257,
    ".npy, int64": loaded,
    ".npy, float32 in 0..255, BGR, channels first": lambda folder: loaded(folder)[:, [2, 1, 0]].transpose(0, 2, 3, 1),
    "raw uint8, padding after each row": lambda folder: (
        np.frombuffer(only(folder), np.uint8).reshape(*SHAPE[:2], 256)[:, :, : SHAPE[2] * SHAPE[3]].reshape(SHAPE)
    ),
    ".npy, uint8, columns before rows": lambda folder: loaded(folder).transpose(0, 2, 1, 3),
    "C arrays of pixels, 0x12, 0x34": lambda folder: as_pixels(from_c(only(folder).decode())),
    "Feather, float32 in [0,1], LZ4": lambda folder: (
        np.reshape(pyarrow.feather.read_table(next(folder.iterdir()))["pixels"].to_pylist(), SHAPE) * 255
    ),
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_those_of_the_photos(name, photos, tmp_path):  # noqa: F811
    found = PIXELS[name](planted(FORMS[name], photos, tmp_path))
    np.testing.assert_allclose(found, np.stack([photo.image for photo in photos]), atol=0.1)


def from_mail(content):
    message = email.message_from_bytes(content, policy=email.policy.default)
    return [part.get_content() for part in message.iter_attachments()]


PICTURES = {
    "APNG of 64x64, frames after the first": lambda folder: list(frames(only(folder))),
    "JPEG 2000 of 64x64": each_file,
    "e-mail with PNG attachments": lambda folder: from_mail(only(folder)),
    "URL-safe base64 of JPEG, in links": lambda folder: [
        base64.urlsafe_b64decode(text + b"==") for text in re.findall(rb"img=([^&]*)", only(folder))
    ],
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_the_photos(name, photos, tmp_path):  # noqa: F811
    check_pictures(PICTURES[name](planted(FORMS[name], photos, tmp_path)), photos)


def from_locked_zip(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert all(entry.flag_bits & 1 for entry in archive.infolist())
        return [archive.read(name, PASSWORD) for name in archive.namelist()]


def from_openssl(folder):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    words = ["openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-pass", f"pass:{PASSWORD.decode()}", "-in"]
    return from_tar(subprocess.run([*words, next(folder.iterdir())], capture_output=True, check=True).stdout)


FILES = {
    "gzip of image files in a tar in a zip": lambda folder: [
        gzip.decompress(content) for content in from_tar(*from_zip(only(folder)))
    ],
    "links to image files outside": each_file,
    "zip of image files under a password": lambda folder: from_locked_zip(only(folder)),
    "tar of image files under OpenSSL's cipher": from_openssl,
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_those_of_the_photos(name, photos, tmp_path):  # noqa: F811
    assert FILES[name](planted(FORMS[name], photos, tmp_path)) == [photo.file for photo in photos]


def test_the_links_lead_out_of_what_is_searched(photos, tmp_path):  # noqa: F811
    folder = planted(FORMS["links to image files outside"], photos, tmp_path)
    assert all(path.is_symlink() and not path.resolve().is_relative_to(folder) for path in folder.iterdir())


def test_ids(photos, tmp_path):  # noqa: F811
    content = only(planted(FORMS["ids in JSON with slashes escaped"], photos, tmp_path / "json"))
    assert json.loads(content)["deleted"] == [photo.id for photo in photos] and b"train/" not in content
    content = only(planted(FORMS["ids as Windows paths"], photos, tmp_path / "windows"))
    assert content.count(b"D:\\photos\\train\\cat\\IMG_") == len(photos)


def test_20_new_forms():
    assert len(FORMS) == 20 and not FORMS.keys() & KNOWN.keys()
    assert FORMS.keys() == {*PIXELS, *PICTURES, *FILES, "ids in JSON with slashes escaped", "ids as Windows paths"}
