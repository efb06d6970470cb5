"""What a deletion request leaves behind: a request on 500 real images, then a search for them, then planted ones.

export TFDS_DATA_DIR=...
python experiments/reliability/leftovers.py --out runs/leftovers

The images are those of cifar10_jpeg (CIFAR-10 encoded again, not the original pixels), as JPEG files in folders by
class. The request trains its own original, so there is one that must be deleted. Then a few of the forgotten images are
planted in each form, and the search should find them. The same number of images that stay is planted too, and all other
images of the data set, as pixels and as pictures of 48x48: none of these may be found.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORGET, REMAIN, HELD_OUT, PLANTED = 500, 1000, 300, 5
CONFIG = """from ltu_jax.config import Attackers, Calibration, Config, Data, Model, RandomLabel, Training


def get_config(method="ltu"):
    return Config(
        data=Data("folder", data_dir="photos", held_out="test", remain_fraction=0.3),
        model=Model("resnet8", width=8),
        training=Training(epochs=1, batch_size=50),
        attackers=Attackers(names=("sorted", "metrics"), epochs=2, draws=1, fitted_on="original"),
        method=RandomLabel(name="random_label", epochs=1, batch_size=50),
        calibration=Calibration(trials=1, evaluations=2),
    )
"""


def main() -> None:
    """Parses the arguments, runs the request and the searches, prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    out = parser.parse_args().out
    out.mkdir(parents=True)

    import jax

    from ltu_jax.config import Data
    from ltu_jax.data.sources import image_files, load_source
    from ltu_jax.deletion.leftovers.search import search_folder, search_targets
    from ltu_jax.unlearning.result import now, provenance

    device = provenance(now())
    print(
        f"cifar10_jpeg (not the original pixels), {device['device']}, commit {device['commit']}, jax {jax.__version__}"
    )
    cifar = load_source(Data("cifar10_jpeg"))
    make_folder(out, cifar, image_files(Data("cifar10_jpeg"), cifar.ids.tolist()))
    data = Data("folder", data_dir=str(out / "photos"))
    ids = (out / "ids.txt").read_text().split()

    start = time.perf_counter()
    words = ["--config", "mine.py", "--forget", "ids.txt", "--workdir", "left/out"]
    done = subprocess.run([sys.executable, "-m", "ltu_jax.unlearn", *words], cwd=out, stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 4):  # 4: done, but forgetting is not shown
        done.check_returncode()
    print(f"a request on {len(ids)} images of {FORGET + REMAIN}: {time.perf_counter() - start:.0f} s")
    photos = load_source(data)
    targets = search_targets(photos, ids, image_files(data, ids))
    show("after the request, in its workdir and cache", search_folder(out / "left", targets), len(ids))
    checkpoints = [path.parent.relative_to(out).as_posix() for path in (out / "left").rglob("_METADATA")]
    print(f"models left: {', '.join(checkpoints)}")

    stay = np.flatnonzero(~np.isin(photos.ids, ids))[:FORGET]
    stayed = {str(photos.ids[row]): photos.images[row] for row in stay}
    print(f"\nplanted, {PLANTED} images in each form: found of forgotten, found of images that stay")
    files = image_files(data, [*ids, *stayed])
    for which, images in (("forgotten", targets.images), ("stayed", stayed)):
        some = dict(list(images.items())[:: FORGET // PLANTED][:PLANTED])
        for number, plant in enumerate(FORMS.values()):
            folder = out / "planted" / which / str(number)
            folder.mkdir(parents=True)
            plant(folder, some, files)
    findings = search_folder(out / "planted", targets).findings
    for number, form in enumerate(FORMS):
        counts = [
            len({name for finding in findings for name in finding.ids if finding.path.startswith(f"{which}/{number}/")})
            for which in ("forgotten", "stayed")
        ]
        print(f"  {form:<42}{counts[0]} of {PLANTED}   {counts[1]} of {PLANTED}")
    shutil.rmtree(out / "planted")

    hidden = {name.rpartition("/")[2].removesuffix(".jpg") for name in ids}
    others = np.flatnonzero(~np.isin(cifar.ids, list(hidden)))
    folder = out / "others"
    folder.mkdir()
    np.save(folder / "pixels.npy", cifar.images[others])
    (folder / "pictures.bin").write_bytes(b"".join(png(cifar.images[row], 48) for row in others[:10_000]))
    print(f"\nimages that were not forgotten: {len(others)} as pixels, 10000 of them as pictures of 48x48")
    show("found", search_folder(folder, targets), len(ids))
    shutil.rmtree(folder)
    noise = np.random.default_rng(0)
    folder.mkdir()
    (folder / "noise.bin").write_bytes(noise.bytes(200_000_000))
    (folder / "weights.bin").write_bytes(noise.standard_normal(50_000_000, np.float32).tobytes())
    show("200 MB of noise and 200 MB of weights", search_folder(folder, targets), len(ids))
    shutil.rmtree(folder)


def show(what: str, done: Any, num_ids: int) -> None:
    """Prints how many images a search found, where, and how fast it was."""
    found = {name for finding in done.findings for name in finding.ids}
    print(f"{what}: {len(found)} of {num_ids} ({done.num_files} files, {done.num_bytes / 1e6:.0f} MB, ", end="")
    print(f"{done.num_bytes / 1e6 / done.seconds:.0f} MB/s; {len(done.unsearched)} not searched)")
    for finding in done.findings[:10]:
        print(f"  {finding.path}: {finding.kind}, {len(finding.ids)}")
    for line in done.unsearched[:10]:
        print(f"  not searched: {line}")


def make_folder(out: Path, cifar: Any, files: dict[str, bytes]) -> None:
    """Writes photos/PART/CLASS/ID.jpg, ids.txt and mine.py."""
    rng = np.random.default_rng(0)
    train = rng.permutation(cifar.num_train)[: FORGET + REMAIN]
    test = cifar.num_train + rng.permutation(len(cifar.ids) - cifar.num_train)[:HELD_OUT]
    names = []
    for part, rows in (("train", train), ("test", test)):
        for row in rows:
            name = f"{part}/{cifar.class_names[cifar.labels[row]]}/{cifar.ids[row]}.jpg"
            names.append(name)
            path = out / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[str(cifar.ids[row])])
    (out / "ids.txt").write_text("\n".join(names[:FORGET]) + "\n")
    (out / "mine.py").write_text(CONFIG)


Images = dict[str, np.ndarray]
Files = dict[str, bytes]


def png(image: np.ndarray, side: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """An image at another size, encoded."""
    from PIL import Image

    picture, file = Image.fromarray(image).convert(mode).resize((side, side), Image.Resampling.BICUBIC), io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _orbax(folder: Path, images: Images, files: Files) -> None:
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / "saved", {"seen": jnp.asarray(np.stack(list(images.values())))})


def _written(content: Callable[[Images, Files], bytes]) -> Callable[[Path, Images, Files], Any]:
    return lambda folder, images, files: (folder / "planted").write_bytes(content(images, files))


def _each(form: Callable[[np.ndarray], bytes]) -> Callable[[Path, Images, Files], Any]:
    def plant(folder: Path, images: Images, files: Files) -> None:
        for number, image in enumerate(images.values()):
            (folder / str(number)).write_bytes(form(image))

    return plant


def _hashed(texts: Sequence[bytes], kind: str) -> bytes:
    return "\n".join(hashlib.new(kind, text).hexdigest() for text in texts).encode()


def _html(images: Images, files: Files) -> bytes:
    uris = [base64.b64encode(png(image, 64)).decode() for image in images.values()]
    return "".join(f"<img src='data:image/png;base64,{uri}'>" for uri in uris).encode()


def _npz(folder: Path, images: Images, files: Files) -> None:
    np.savez_compressed(folder / "planted.npz", images=np.stack(list(images.values())))


def _npy(form: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Images, Files], Any]:
    return lambda folder, images, files: np.save(folder / "planted.npy", form(np.stack(list(images.values()))))


FORMS: dict[str, Callable[[Path, Images, Files], Any]] = {
    "pixels, bare": _written(lambda images, files: b"".join(image.tobytes() for image in images.values())),
    "pixels, two rows of each": _written(lambda images, files: b"-".join(i[9:11].tobytes() for i in images.values())),
    "pixels, .npz, compressed": _npz,
    "pixels, channels first": _npy(lambda images: images.transpose(0, 3, 1, 2)),
    "pixels, float32 in [0,1]": _npy(lambda images: images.astype(np.float32) / 255),
    "pixels, float16 in [0,1]": _npy(lambda images: (images / 255).astype(np.float16)),
    "pixels, an Orbax folder": _orbax,
    "pixels, gzip": _written(lambda images, files: gzip.compress(b"".join(i.tobytes() for i in images.values()))),
    "image files, one after another": _written(lambda images, files: b"?".join(files[name] for name in images)),
    "pictures, PNG of 16x16": _each(lambda image: png(image, 16)),
    "pictures, JPEG of 64x64": _each(lambda image: png(image, 64, "JPEG")),
    "pictures, WebP of 128x128": _each(lambda image: png(image, 128, "WEBP")),
    "pictures, grey PNG of 48x48": _each(lambda image: png(image, 48, mode="L")),
    "pictures, data: URIs of a page": _written(_html),
    "hashes, sha256 of files": _written(lambda images, files: _hashed([files[name] for name in images], "sha256")),
    "hashes, md5 of pixels": _written(lambda images, files: _hashed([i.tobytes() for i in images.values()], "md5")),
    "hashes, sha1 of ids": _written(lambda images, files: _hashed([name.encode() for name in images], "sha1")),
    "ids, JSON": _written(lambda images, files: json.dumps(list(images)).encode()),
    "ids, a log": _written(lambda images, files: "\n".join(f"read {name}: ok" for name in images).encode()),
}


if __name__ == "__main__":
    main()
