"""20 further forms in which an image may lie about on a server, as leftover_forms.py has them.

Made before the search was mended, by somebody who had not read it. The two that are encrypted nobody can search: what
is asked is that they are named.
"""

import base64
import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

import numpy as np

from experiments.reliability.leftover_forms import (
    Form,
    Photo,
    each,
    encoded,
    lines,
    numbered,
    outside,
    saved,
    sequence,
    stacked,
    tarred,
    written,
    zipped,
    zstd,
)

PASSWORD = b"correct horse"


def _link(folder: Path, photos: Sequence[Photo]) -> None:
    place = outside(folder)
    for name, content in numbered(photos).items():
        (place / name).write_bytes(content)
        (folder / f"latest_{name}").symlink_to((place / name).absolute())


def _mail(photos: Sequence[Photo]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Your photos", "app@example.org", "ops@example.org"
    message.set_content("See the attachments.")
    for number, photo in enumerate(photos):
        message.add_attachment(encoded(photo, 64, "PNG"), "image", "png", filename=f"{number}.png")
    return message.as_bytes()


def _urls(photos: Sequence[Photo]) -> bytes:
    texts = [base64.urlsafe_b64encode(encoded(photo, 64, "JPEG")).decode().rstrip("=") for photo in photos]
    return lines([f"https://example.org/preview?size=64&img={text}&v=2" for text in texts])


def _windows(photos: Sequence[Photo]) -> bytes:
    paths = [photo.id.replace("/", "\\") for photo in photos]
    return "".join(f"2024-03-01 12:00:01 copied D:\\photos\\{path} (ok)\r\n" for path in paths).encode()


def _slashes(photos: Sequence[Photo]) -> bytes:
    """JSON as PHP writes it."""
    return json.dumps({"deleted": [photo.id for photo in photos]}).replace("/", "\\/").encode()


def _segment(photos: Sequence[Photo]) -> bytes:
    """A log of records, some of which are compressed."""
    records = [b'{"event": "upload", "user": %d}' % number for number in range(200)]
    records[100:100] = [zstd(photo.image.tobytes()) for photo in photos]
    return b"".join(struct.pack(">QI", offset, len(record)) + record for offset, record in enumerate(records))


def _padded(photos: Sequence[Photo]) -> bytes:
    """Rows that begin at multiples of 256 bytes, as a graphics card wants them."""
    number, height, width, channels = stacked(photos).shape
    rows = stacked(photos).reshape(number, height, width * channels)
    return np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[2] % 256))).tobytes()


def _header(photos: Sequence[Photo]) -> bytes:
    """C, as ``xxd -i`` writes it."""
    texts = []
    for number, photo in enumerate(photos):
        content = photo.image.tobytes()
        rows = [", ".join(f"0x{byte:02x}" for byte in content[at : at + 12]) for at in range(0, len(content), 12)]
        texts.append(f"unsigned char image_{number}[] = {{\n  " + ",\n  ".join(rows) + "\n};")
    return lines(texts)


def _feather(folder: Path, photos: Sequence[Photo]) -> None:
    import pyarrow
    import pyarrow.feather

    column = pyarrow.array([(photo.image.astype(np.float32) / 255).ravel() for photo in photos])
    table = pyarrow.table({"pixels": column})
    pyarrow.feather.write_feather(table, str(folder / "batch.feather"), compression="lz4")


def _encrypted(content: bytes, crc: int) -> bytes:
    """Content under the old cipher of zip archives (APPNOTE 6.1), with the 12 bytes that precede it."""
    ones = 0xFFFFFFFF
    keys = [0x12345678, 0x23456789, 0x34567890]

    def turn(byte: int) -> None:
        keys[0] = zlib.crc32(bytes([byte]), keys[0] ^ ones) ^ ones
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & ones
        keys[2] = zlib.crc32(bytes([keys[1] >> 24]), keys[2] ^ ones) ^ ones

    for byte in PASSWORD:
        turn(byte)
    hidden = bytearray()
    for byte in hashlib.sha256(content).digest()[:11] + bytes([crc >> 24]) + content:
        mask = keys[2] & 0xFFFF | 2
        hidden.append(byte ^ (mask * (mask ^ 1) >> 8 & 255))
        turn(byte)
    return bytes(hidden)


def _locked_zip(photos: Sequence[Photo]) -> bytes:
    body, directory = b"", b""
    files = numbered(photos)
    for name, content in files.items():
        packer = zlib.compressobj(wbits=-15)
        crc = zlib.crc32(content)
        hidden = _encrypted(packer.compress(content) + packer.flush(), crc)
        # version 2.0, flag "encrypted", deflated, midnight of 1 January 2024
        fields = struct.pack("<5H3I2H", 20, 1, 8, 0, 0x5821, crc, len(hidden), len(content), len(name), 0)
        directory += b"PK\1\2\x14\0" + fields + struct.pack("<3H2I", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + fields + name.encode() + hidden
    end = struct.pack("<4H2IH", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


def _openssl(photos: Sequence[Photo]) -> bytes:
    """A backup under ``openssl enc -aes-256-cbc -pbkdf2``."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    salt, padder = b"8 bytes.", PKCS7(128).padder()
    secret = hashlib.pbkdf2_hmac("sha256", PASSWORD, salt, 10_000, 48)
    writer = Cipher(algorithms.AES(secret[:32]), modes.CBC(secret[32:])).encryptor()
    content = padder.update(tarred(numbered(photos), "w")) + padder.finalize()
    return b"Salted__" + salt + writer.update(content) + writer.finalize()


FORMS: dict[str, Form] = {
    "APNG of 64x64, frames after the first": Form(
        "pictures", written("loader.png", lambda photos: sequence(photos, 64, "PNG"))
    ),
    "JPEG 2000 of 64x64": Form("pictures", each("jp2", lambda photo: encoded(photo, 64, "JPEG2000"))),
    "e-mail with PNG attachments": Form("pictures", written("sent.eml", _mail)),
    "URL-safe base64 of JPEG, in links": Form("pictures", written("links.txt", _urls)),
    "base85 of pixels": Form(
        "pixels",
        written("blobs.txt", lambda photos: lines([base64.b85encode(p.image.tobytes()).decode() for p in photos])),
    ),
    "ids in JSON with slashes escaped": Form("ids", written("deleted.json", _slashes)),
    "ids as Windows paths": Form("ids", written("copy.log", _windows)),
    "gzip of image files in a tar in a zip": Form(
        "files",
        written(
            "disk.zip",
            lambda photos: zipped(
                {"disk.tar": tarred({f"{n}.gz": gzip.compress(p.file) for n, p in enumerate(photos)}, "w")}
            ),
        ),
    ),
    "zstd frames of pixels amid a log": Form("pixels", written("00000000.log", _segment)),
    "raw float32 in [0,1], big-endian": Form(
        "pixels", written("images.dat", lambda photos: (stacked(photos) / np.float32(255)).astype(">f4").tobytes())
    ),
    ".npy, uint16, 257 times the pixels": Form("pixels", saved(lambda images: images.astype(np.uint16) * 257)),
    ".npy, int64": Form("pixels", saved(lambda images: images.astype(np.int64))),
    ".npy, float32 in 0..255, BGR, channels first": Form(
        "pixels", saved(lambda images: images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C"))
    ),
    "raw uint8, padding after each row": Form("pixels", written("texture.raw", _padded)),
    ".npy, uint8, columns before rows": Form(
        "pixels", saved(lambda images: np.ascontiguousarray(images.transpose(0, 2, 1, 3)))
    ),
    "C arrays of pixels, 0x12, 0x34": Form("pixels", written("test_images.h", _header)),
    "Feather, float32 in [0,1], LZ4": Form("pixels", _feather),
    "links to image files outside": Form("files", _link),
    "zip of image files under a password": Form("files", written("private.zip", _locked_zip)),
    "tar of image files under OpenSSL's cipher": Form("files", written("backup.tar.enc", _openssl)),
}
"""20 forms by name."""
