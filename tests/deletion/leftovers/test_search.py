"""What was planted is found, each kind of it; what belongs to others is not."""

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from ltu_jax.deletion.leftovers import look as looking
from ltu_jax.deletion.leftovers.search import report_lines, search_folder, search_targets
from ltu_jax.types import Source

NUM, ASKED = 40, 6


def encoded(image, kind="PNG", **more):
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **more)
    return file.getvalue()


def soft(rng, side=32):
    """Blobs: images that look like images, and like no other."""
    levels = rng.integers(30, 220, (8, 8, 1)) + rng.integers(-15, 15, (8, 8, 3))  # colours that JPEG can keep
    small = Image.fromarray(levels.astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    images = np.stack([soft(rng) for _ in range(NUM)])
    ids = np.array([f"train/cat/photo {i:03d}.png" for i in range(NUM)])
    return Source("toy", images, np.zeros(NUM, np.int32), ids, 2, NUM)


@pytest.fixture(scope="module")
def wanted(source):
    names = [str(name) for name in source.ids[:ASKED]]
    return search_targets(
        source, names, {name: encoded(image) for name, image in zip(names, source.images, strict=False)}
    )


def found(folder, wanted):
    """``{path: {kind: numbers}}``"""
    by_path = {}
    for one in search_folder(folder, wanted).findings:
        by_path.setdefault(one.path, {})[one.kind] = [list(wanted.ids).index(name) for name in one.ids]
    return by_path


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(name, text):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


def scaled(image, side, resample=Image.Resampling.BICUBIC):
    return Image.fromarray(image).resize((side, side), resample)


def plants(images, ids, junk):
    """By name: bytes, what is to be found, and of which of the images."""
    uri = b"<p><img src='data:image/png;base64," + base64.b64encode(encoded(scaled(images[1], 20))) + b"'></p>"
    notebook = json.dumps({"image/png": base64.encodebytes(encoded(images[2])).decode()}).encode()
    digest = hashlib.sha256(images[3].tobytes())
    two_rows = images[0].tobytes()[7 * 96 : 9 * 96]
    return {
        "raw.bin": (junk + images[2].tobytes() + junk, "pixels", [2]),
        "odd place.bin": (junk[:13] + two_rows + junk, "pixels", [0]),
        "a few rows.bin": (junk + images[3, 11:14].tobytes(), "pixels", [3]),
        "channels apart.npy": (npy(images[:3].transpose(0, 3, 1, 2)), "pixels", [0, 1, 2]),
        "many.npz": (npz(x=images[:4], y=junk), "pixels", [0, 1, 2, 3]),
        "float32.npy": (npy(images[1:2].astype(np.float32) / 255), "pixels", [1]),
        "float16.npy": (npy((images[4] / 255).astype(np.float16)), "pixels", [4]),
        "float64.bin": (junk[:11] + (images[5] / 255).tobytes(), "pixels", [5]),
        "jax.npy": (npy(np.asarray(jnp.asarray(images[2], jnp.float32) * (1 / 255))), "pixels", [2]),
        # twice, for what cannot be packed lies in a gzip file as it is
        "a.bz2.gz": (gzip.compress(bz2.compress(junk + images[5].tobytes())), "pixels", [5]),
        "a.bz2.zlib": (zlib.compress(bz2.compress(junk + images[4].tobytes())), "pixels", [4]),
        "a.xz": (lzma.compress(bz2.compress(junk + images[3].tobytes())), "pixels", [3]),
        "twice.zip": (zipped("inner.zip", zipped("x", images[4].tobytes())), "pixels", [4]),
        "record": (junk + encoded(images[1]) + junk, "image file", [1]),
        "copy.png": (encoded(images[4]), "image file", [4]),
        "other.jpg": (encoded(images[0], "JPEG", quality=80), "picture", [0]),
        "thumb.png": (encoded(scaled(images[1], 20)), "picture", [1]),
        "large.webp": (encoded(scaled(images[2], 150), "WEBP", quality=80), "picture", [2]),
        "few colours.gif": (encoded(Image.fromarray(images[3]).quantize(64), "GIF"), "picture", [3]),
        "grey.png": (encoded(scaled(images[4], 24).convert("L")), "picture", [4]),
        "old.bmp": (encoded(scaled(images[0], 40), "BMP"), "picture", [0]),
        "page.html": (uri, "picture", [1]),
        "book.ipynb": (notebook, "picture", [2]),
        "within.bin": (junk + encoded(scaled(images[5], 48), "JPEG") + junk, "picture", [5]),
        "small.npy": (
            npy(np.stack([np.asarray(scaled(images[0], 12)), np.asarray(scaled(images[3], 12))])),
            "picture",
            [0, 3],
        ),
        "small float.npy": (npy(np.asarray(scaled(images[5], 16), np.float32)[None] / 255), "picture", [5]),
        "sums.txt": (digest.hexdigest().encode(), "hash", [3]),
        "SUMS.txt": (b"x" + hashlib.md5(encoded(images[2])).hexdigest().upper().encode(), "hash", [2]),
        "index": (junk + hashlib.sha1(ids[1].encode()).digest() + junk, "hash", [1]),
        "log.txt": (f"INFO: photos/{ids[2]}: skipped".encode(), "id", [2]),
        "table.npz": (npz(ids=np.array([ids[3], "other"])), "id", [3]),
    }


@pytest.fixture(scope="module")
def planted(source):
    junk = np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes()
    return plants(source.images, source.ids.tolist(), junk), plants(
        source.images[::-1], source.ids[::-1].tolist(), junk
    )


def test_each_kind_that_was_planted_is_found_alone(tmp_path, planted, wanted):
    for name, (content, _, _) in planted[0].items():
        (tmp_path / name).write_bytes(content)
    by_path = found(tmp_path, wanted)
    for name, (_, kind, which) in planted[0].items():
        seen = [kinds[kind] for path, kinds in by_path.items() if path.split("!")[0] == name and kind in kinds]
        assert sorted(set(sum(seen, []))) == which, (name, by_path.get(name))
    for kinds in by_path.values():
        assert all(set(numbers) <= set(range(ASKED)) for numbers in kinds.values())


def test_the_same_of_images_that_stay_is_not_found(tmp_path, planted, wanted):
    for name, (content, _, _) in planted[1].items():
        (tmp_path / name).write_bytes(content)
    assert found(tmp_path, wanted) == {}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_checkpoints_by_orbax_are_looked_into(tmp_path, source, wanted, dtype):
    images = source.images[2:4] if dtype == np.uint8 else source.images[2:4].astype(np.float32) / 255
    tiny = np.stack([np.asarray(scaled(image, 14)) for image in source.images[4:6]])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(
            tmp_path / "model", {"w": jnp.ones((40, 3)), "kept": jnp.asarray(images), "tiny": jnp.asarray(tiny)}
        )
    by_path = found(tmp_path, wanted)
    kinds = [kinds for path, kinds in by_path.items() if "pixels" in kinds]
    assert [of["pixels"] for of in kinds] == [[2, 3]]
    assert by_path["model!tiny"] == {"picture": [4, 5]} and by_path["model!kept"]["picture"] == [2, 3]


def test_an_id_is_a_whole_word_and_a_short_one_stands_alone(tmp_path, source):
    images = source.images[:4]
    ids = np.array(["id_00012", "7", "cat", "42"])
    wanted = search_targets(Source("toy", images, np.zeros(4, np.int32), ids, 2, 4), ids.tolist(), {})
    for text, which in (
        ("id_000123", []),
        ("xid_00012", []),
        ("id_00012.png", [0]),
        ("[id_00012]", [0]),
        ("a cat sat", []),
        ('{"a": "cat"}', [2]),
        ("dog\ncat\n", [2]),
        ('{"7": 42}', []),
        ("7\n42\n", []),
    ):
        (tmp_path / "text").write_text(text)
        by_path = found(tmp_path, wanted)
        assert by_path == ({"text": {"id": which}} if which else {}), text
    (tmp_path / "text").unlink()
    (tmp_path / "id_00012").mkdir()
    (tmp_path / "id_00012" / "cat").write_text("")
    assert found(tmp_path, wanted) == {"id_00012": {"id": [0]}, "id_00012/cat": {"id": [0, 2]}}
    assert "2 ids are short numbers" in "\n".join(report_lines(search_folder(tmp_path, wanted), wanted))


def test_what_cannot_be_opened_is_named_and_the_rest_is_searched(tmp_path, source, wanted):
    (tmp_path / "a.zip").write_bytes(zipped("x", b"y" * 1000)[:-30])
    (tmp_path / "b.rar").write_bytes(b"Rar!" + bytes(100))
    (tmp_path / "c.npy").write_bytes(npy(np.array([{}, None], object)))
    (tmp_path / "d.gz").write_bytes(gzip.compress(source.images[0].tobytes())[:-100])
    (tmp_path / "e").symlink_to("nowhere")
    (tmp_path / "f").write_bytes(b"")
    (tmp_path / "g.png").write_bytes(encoded(source.images[0])[:100])
    (tmp_path / "h.bin").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(range(100)) + b"\x28\xb5\x2f\xfd")
    (tmp_path / "z").write_bytes(source.images[1].tobytes())
    done = search_folder(tmp_path, wanted)
    assert [one.path for one in done.findings if one.kind == "pixels"][-1:] == ["z"]
    assert [line.partition(":")[0] for line in done.unsearched] == ["b.rar", "c.npy", "d.gz", "e", "g.png"]
    lines = report_lines(done, wanted)
    assert [line for line in lines if line.startswith("not searched: ")] == [
        f"not searched: {one}" for one in done.unsearched
    ]
    assert lines[-1].endswith("; NOT SEARCHED: 5, see above")


def test_images_that_are_gone_from_the_data_are_searched_for_by_id(tmp_path, source, wanted):
    gone = search_targets(source, ["train/cat/gone 1.png", *wanted.ids[:1]], {})
    (tmp_path / "log").write_text(f"train/cat/gone 1.png {hashlib.md5(b'train/cat/gone 1.png').hexdigest()}")
    done = search_folder(tmp_path, gone)
    assert {(one.kind, one.ids) for one in done.findings} == {(k, ("train/cat/gone 1.png",)) for k in ("id", "hash")}
    lines = report_lines(done, gone)
    assert lines[2].startswith("not searched for: 1 ids are no longer in the data: only the ids and hashes of them")
    assert lines[-1].startswith("FOUND: 1 of 2 (1 files, ")


def test_what_lies_across_the_edge_of_what_is_read_at_once_is_found(tmp_path, source, wanted, monkeypatch):
    monkeypatch.setattr(looking, "_STREAMED", 30_000)
    monkeypatch.setattr(looking, "_EDGE", 9_000)
    junk = np.random.default_rng(3).integers(0, 256, 29_000, np.uint8).tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(junk + source.images[0].tobytes() + encoded(source.images[1])))
    assert found(tmp_path, wanted)["x.gz"] == {"pixels": [0, 1], "image file": [1], "picture": [1]}


def test_a_plain_image_is_said_and_not_found_everywhere(tmp_path):
    images = np.full((3, 16, 16, 3), 255, np.uint8)
    images[2] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    source = Source("toy", images, np.zeros(3, np.int32), np.array(["white_one", "white_two", "noise_one"]), 2, 3)
    wanted = search_targets(source, ["white_one", "noise_one"], {})
    (tmp_path / "x").write_bytes(bytes([255]) * 5000)
    done = search_folder(tmp_path, wanted)
    assert not done.findings and done.plain == ["white_one"]
    assert "not searched for: 1 images are too plain to be told by their pixels" in report_lines(done, wanted)[0]


def test_links_are_followed_once_and_out_of_the_folder(tmp_path, source, wanted):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "own", outside / "deep"):
        folder.mkdir(parents=True)
    (outside / "deep" / "a").write_bytes(source.images[0].tobytes())
    (outside / "b").write_bytes(source.images[1].tobytes())
    (inside / "own" / "c").write_bytes(source.images[2].tobytes())
    (inside / "folder").symlink_to(outside / "deep")
    (inside / "again").symlink_to(outside / "deep")
    (inside / "file").symlink_to(outside / "b")
    (inside / "its own").symlink_to(inside / "own" / "c")
    (inside / "own" / "loop").symlink_to(inside)
    (outside / "deep" / "back").symlink_to(inside)
    done = search_folder(inside, wanted)
    pixels = {one.path: list(wanted.ids).index(one.ids[0]) for one in done.findings if one.kind == "pixels"}
    assert pixels == {"again/a": 0, "file": 1, "own/c": 2} and done.num_files == 3 and not done.unsearched


def test_what_is_no_regular_file_or_cannot_be_read_is_named(tmp_path, wanted):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "round").symlink_to("round")
    names = [line.partition(":")[0] for line in search_folder(tmp_path, wanted).unsearched]
    assert names == ["nowhere", "pipe", "round"]
