"""What is packed, encoded or drawn is looked through, in any order, as far as a budget allows; the rest is named."""

import base64
import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from ltu_jax.deletion.leftovers import look as looking
from ltu_jax.deletion.leftovers.look import Look, SearchTargets
from ltu_jax.deletion.leftovers.unpacking import Budget

RNG = np.random.default_rng(0)
IMAGES = [
    np.asarray(Image.fromarray(RNG.integers(30, 220, (6, 6, 3), np.uint8)).resize((32, 32), Image.Resampling.BICUBIC))
    for _ in range(30)
]
IDS = [f"train/größe {k:04d}.png" for k in range(2)]
WANTED = SearchTargets(IDS, dict(zip(IDS, IMAGES, strict=False)), {}, np.stack(IMAGES[2:]))
PIXELS = IMAGES[0].tobytes()


def seen(path, content):
    """Kinds found of the first image alone, and what was not searched."""
    path.write_bytes(content)
    look = Look(WANTED)
    look.search_file(path, path.name)
    found = {key for of in look.found.values() for key in of}
    assert all(owner == 0 for _, owner in found)
    return {kind for kind, _ in found}, look.unsearched()


def picture(kind, image=IMAGES[0], **more):
    file = io.BytesIO()
    Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC).save(file, kind, **more)
    return file.getvalue()


def zipped(content, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x", content)
    return file.getvalue()


def tarred(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("x")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def in_parquet(content):
    file = io.BytesIO()
    parquet.write_table(pa.table({"x": [content] * 2}), file, compression="gzip")
    return file.getvalue()


def in_sqlite(content):
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE t (x BLOB)")
    base.execute("INSERT INTO t VALUES (?)", (content,))
    base.commit()
    return base.serialize()


PACKERS = {
    "gzip": gzip.compress,
    "zlib": lambda raw: b"PDF stream\n" + zlib.compress(raw) + b"\nendstream",
    "zip": zipped,
    "a zip that was cut": lambda raw: zipped(raw)[:-40],
    "a zip that stores": lambda raw: zipped(raw, zipfile.ZIP_STORED),
    "tar": tarred,
    "parquet": in_parquet,
    "sqlite": in_sqlite,
    "base64": base64.encodebytes,
    "base85": base64.b85encode,
    "hex": lambda raw: raw.hex().encode(),
    "JSON": lambda raw: json.dumps({"a": base64.b64encode(raw).decode()}).replace("/", "\\/").encode(),
    "bytes of Python": lambda raw: repr(raw).encode(),
    "C": lambda raw: ", ".join(map(hex, raw)).encode(),
    "UTF-16": lambda raw: base64.b64encode(raw).decode().encode("utf-16"),
}
CONTENTS = {
    "pixels": (PIXELS, "pixels"),
    "float pixels": ((IMAGES[0] / np.float32(255)).tobytes(), "pixels"),
    "picture": (picture("JPEG"), "picture"),
    "mirrored": (picture("PNG", IMAGES[0][:, ::-1]), "picture"),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_each_content_is_found_in_each_packing(tmp_path, packer, content):
    raw, kind = CONTENTS[content]
    kinds, unsearched = seen(tmp_path / "a", PACKERS[packer](raw))
    assert kind in kinds and not unsearched


@pytest.mark.parametrize("outer", PACKERS)
@pytest.mark.parametrize("inner", ["gzip", "zip", "tar", "parquet", "sqlite", "base64", "hex"])
def test_in_two_packings(tmp_path, outer, inner):
    kinds, unsearched = seen(tmp_path / "a", PACKERS[outer](PACKERS[inner](PIXELS)))
    assert "pixels" in kinds and not unsearched


@pytest.mark.parametrize(
    "write",
    [
        lambda name: name.encode("utf-16-le"),
        lambda name: name.encode("utf-16"),
        lambda name: json.dumps(name).encode(),
        lambda name: json.dumps(name).replace("/", "\\/").encode(),
        lambda name: "".join(f"\\u{ord(c):04X}" for c in name).encode(),
        lambda name: "".join(f"%{c:02x}" for c in name.encode()).encode(),
        lambda name: name.replace("/", "\\").encode(),
        lambda name: name.encode("cp1252"),
        lambda name: base64.b64encode(f"it is {name}, and no other".encode()),
    ],
)
def test_ids_are_found_however_they_are_written(tmp_path, write):
    for around in (b"read %s: ok\n", b'{"id": "%s"}'):
        kinds, _ = seen(tmp_path / "a", around % write(IDS[0]) * 3)
        assert kinds == {"id"}


def test_a_slash_that_json_escaped_is_enough_to_unescape_a_text(tmp_path):
    look = Look(SearchTargets(["train/cat/0001.png"], {}, {}, np.stack(IMAGES[2:])))
    (tmp_path / "a").write_bytes(rb'{"deleted": ["train\/cat\/0001.png"]}')  # as PHP writes it
    look.search_file(tmp_path / "a", "a")
    assert look.found == {"a": {("id", 0)}}


def test_a_sheet_of_pictures_is_looked_through(tmp_path):
    sheet = np.zeros((100, 140, 3), np.uint8)
    sheet[10:42, 50:82] = IMAGES[0]
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    assert seen(tmp_path / "a.png", file.getvalue()) == ({"pixels"}, [])


@pytest.mark.parametrize(
    "content, why",
    [
        (RNG.bytes(3000), "3000 bytes look compressed or encrypted"),
        (b"text " * 1000 + RNG.bytes(20_000), "look compressed or encrypted"),
        (base64.b64encode(RNG.bytes(3000)), "3000 bytes look compressed or encrypted"),
        (zipped(RNG.bytes(3000)), "3000 bytes look compressed or encrypted"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z: it is not opened"),
        (b"\0\0\0\x20ftypisom" + bytes(100), "video"),
        (gzip.compress(PIXELS)[:-500], "ends early"),
        (picture("PNG")[:-2000], "cannot be decoded"),
        (zipped(PIXELS, zipfile.ZIP_LZMA), "method 14"),
        (in_parquet(PIXELS)[:-50], "a: "),
        ("".join(chr(c) for c in RNG.integers(33, 127, 9000)).encode(), "look encoded"),
    ],
)
def test_what_is_not_opened_is_named(tmp_path, content, why):
    _, unsearched = seen(tmp_path / "a", content)
    assert any(why in line for line in unsearched), unsearched


def test_an_encrypted_member_is_named(tmp_path):
    raw = bytearray(zipped(RNG.bytes(2000)))
    raw[6] |= 1
    assert seen(tmp_path / "a", bytes(raw))[1] == ["a!x: encrypted"]


def test_what_is_explained_is_not_named_once_more(tmp_path):
    """A member of an archive, and the compressed part of a picture with a long header."""
    _, unsearched = seen(tmp_path / "a", tarred(RNG.bytes(30_000)))
    assert [line[:33] for line in unsearched] == ["a!x: 30000 bytes look compressed "]
    other = np.asarray(Image.fromarray(IMAGES[5]).resize((512, 512), Image.Resampling.BICUBIC)) ^ RNG.integers(
        0, 16, (512, 512, 3), np.uint8
    )
    raw = picture("JPEG", other, comment=b"a remark " * 300, quality=95)
    assert seen(tmp_path / "a", raw) == (set(), [])
    exif = Image.Exif()
    exif[271] = "a camera"  # Exif is a TIFF without a picture
    assert seen(tmp_path / "a", picture("JPEG", other, exif=exif.tobytes())) == (set(), [])


def test_what_is_packed_too_deep_is_named(tmp_path):
    raw = PIXELS
    for depth in range(8):
        kinds, unsearched = seen(tmp_path / "a", raw)
        assert ("pixels" in kinds) == (depth <= looking._DEEPEST)
        assert bool(unsearched) == (depth > looking._DEEPEST), (depth, unsearched)
        raw = gzip.compress(raw)


def test_the_budget_ends_what_is_unpacked_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "_STREAMED", 1 << 20)
    given = Budget.__init__

    def small(budget, size):
        given(budget, size)
        budget.left = budget.whole = 20 * size

    monkeypatch.setattr(Budget, "__init__", small)
    raw = gzip.compress(bytes(50 << 20) + PIXELS)
    kinds, unsearched = seen(tmp_path / "a", raw)
    assert not kinds and any("the rest of these was not unpacked" in line for line in unsearched)
    kinds, _ = seen(tmp_path / "a", raw + PIXELS)  # what is not packed is searched all the same
    assert kinds == {"pixels"}


@pytest.mark.parametrize("unit", [b"\xff\xd8\xff", picture("JPEG")[:620], b"\x78\x9c\x4b\x4b", picture("PNG")[:60]])
def test_heads_that_repeat_take_a_time_that_grows_with_their_number(tmp_path, monkeypatch, unit):
    calls = []
    monkeypatch.setattr(Budget, "spend", lambda self, count: calls.append(count))
    sizes = []
    for number in (200, 400):
        calls.clear()
        seen(tmp_path / "a", unit * number)
        sizes.append(sum(calls))
    assert sizes[1] <= 2.5 * sizes[0] + 1000  # and not four times as much


def test_weights_are_neither_found_nor_named(tmp_path):
    for dtype in (np.float16, np.float32, np.float64):
        raw = RNG.normal(0, 0.05, 200_000).astype(dtype).tobytes()
        assert seen(tmp_path / "a", raw) == (set(), [])
        assert seen(tmp_path / "a", pa.Codec("zstd").compress(raw, asbytes=True)) == (set(), [])


def test_dark_pixels_are_not_taken_for_text_that_hides_something(tmp_path):
    """Levels of 48 to 122 are digits and letters: what they give as base64 says nothing."""
    letters = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
    dark, bright = RNG.choice(letters, (100, 1000)), RNG.integers(130, 255, (100, 1000), np.uint8) // 9 * 9
    assert seen(tmp_path / "a", np.concatenate([dark, bright], 1).tobytes()) == (set(), [])
    assert seen(tmp_path / "a", b"\n".join(row.tobytes() for row in dark))[1]  # a text of the same is named
    one = np.concatenate([RNG.choice(letters, 9000), bright.ravel()])
    assert "look compressed or encrypted" in seen(tmp_path / "a", one.tobytes())[1][0]  # and so is a long one


def test_an_array_of_small_pictures_is_looked_at_in_both_orders_of_colours(tmp_path):
    tiny = np.asarray(Image.fromarray(IMAGES[0]).resize((14, 14), Image.Resampling.BICUBIC))
    for array in (tiny[None], tiny[..., ::-1], np.moveaxis(tiny / 255, -1, 0)):
        file = io.BytesIO()
        np.save(file, array)
        assert seen(tmp_path / "a.npy", file.getvalue()) == ({"picture"}, [])
