"""What a request of ``wrong_set_ups.py`` is made of: photos, the model trained on them, and an engineer's folder."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {0: "airplane", 3: "cat", 5: "dog", 8: "ship"}
NAMES = tuple(CLASSES.values())
TRAINED, OTHERS, HELD_OUT, MORE, UNSEEN, FORGET = 1000, 1000, 300, 700, 1000, 80
EPOCHS, SEED = 25, 0
CONFIG = """from ltu_jax.config import LTU, Config, Data, Model, Training, method_config


def get_config(method="ltu"):
    return Config(
        data=Data("folder", data_dir="photos", remain_fraction=1.0, augment="flip"),
        model=Model("resnet18", width=8, stem="cifar"),
        training=Training(epochs=25),
        weights="model.msgpack",
        method=LTU(batch_size=20) if method == "ltu" else method_config(method),
    )
"""


@dataclasses.dataclass(frozen=True)
class Photo:
    """An image file: class folder, name without its ending, pixels u8[H,W,3]."""

    label: str
    name: str
    pixels: np.ndarray


Photos = tuple[Photo, ...]


@dataclasses.dataclass(frozen=True)
class World:
    """What there is: photos by what the model was to them, and the model's weights."""

    forget: Photos
    remain: Photos
    others: Photos  # never seen, of the data set's training part
    held_out: Photos
    more: Photos  # never seen, of its test part
    unseen: Photos  # the same, for the figures beside the answers only
    weights: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """What an engineer has before the command is typed; ``asked`` are the true images of who asked."""

    forget: Photos
    remain: Photos
    test: Photos
    weights: dict[str, Any]
    asked: Photos
    config: str = CONFIG
    words: tuple[str, ...] = ()
    files: Callable[[Path, Sequence[str]], Any] = lambda folder, ids: None  # writes what else there is


def make_world(out: Path) -> World:
    """Photos and the trained model, made once."""
    photos = out / "photos.npz"
    if not photos.exists():
        from ltu_jax.config import Data
        from ltu_jax.data.sources import load_source

        source = load_source(Data("cifar10_jpeg", classes=tuple(CLASSES)))
        rng = np.random.default_rng(SEED)
        train = rng.permutation(source.num_train)[: TRAINED + OTHERS]
        test = source.num_train + rng.permutation(len(source.ids) - source.num_train)[: HELD_OUT + MORE + UNSEEN]
        rows = np.concatenate([train, test])
        np.savez(photos, images=source.images[rows], labels=source.labels[rows], ids=source.ids[rows].astype(str))
    with np.load(photos) as saved:
        found = [
            Photo(NAMES[y], str(name), x)
            for x, y, name in zip(*(saved[k] for k in ("images", "labels", "ids")), strict=True)
        ]
    ends = np.cumsum([0, FORGET, TRAINED - FORGET, OTHERS, HELD_OUT, MORE, UNSEEN])
    parts = [tuple(found[start:end]) for start, end in zip(ends, ends[1:], strict=False)]
    return World(*parts, weights=given_model(out / "model.msgpack", parts[0] + parts[1]))


def spec() -> Any:
    """The given model's functions."""
    from ltu_jax.config import Model
    from ltu_jax.models.build import build_model

    return build_model(Model("resnet18", width=8, stem="cifar"), len(NAMES), (32, 32, 3))


def given_model(path: Path, photos: Photos) -> dict[str, Any]:
    """Weights of the model trained on the photos, from the file if there is one."""
    import flax.serialization
    import jax

    if not path.exists():
        from ltu_jax.config import Training
        from ltu_jax.training.supervised import train
        from ltu_jax.types import Rows

        params, state = spec().init(jax.random.key(SEED))
        rows = Rows(*map(jax.numpy.asarray, pixels_and_labels(photos)))
        recipe = Training(epochs=EPOCHS, batch_size=50, learning_rate=0.1)
        trained = train(spec().apply_fn, params, state, rows, recipe, jax.random.key(SEED + 1), augment="flip").state
        path.write_bytes(flax.serialization.to_bytes({"params": trained.params, **trained.model_state}))
    return dict(flax.serialization.msgpack_restore(path.read_bytes()))


def pixels_and_labels(photos: Photos) -> tuple[np.ndarray, np.ndarray]:
    """u8[M,32,32,3] and i32[M], the labels by the right class."""
    labels = np.array([NAMES.index(photo.label) for photo in photos], np.int32)
    return np.stack([photo.pixels for photo in photos]), labels


@functools.cache
def _forward() -> Callable[[dict[str, Any], Any], Any]:
    import jax

    def forward(weights: dict[str, Any], images: Any) -> Any:
        state = {name: tree for name, tree in weights.items() if name != "params"}
        return spec().apply_fn(weights["params"], state, images, train=False)[0]

    return jax.jit(forward)


def margins(weights: dict[str, Any], photos: Photos) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of the true class f32[M] and whether it is named rightly bool[M], by the right preprocessing."""
    import jax.numpy as jnp

    from ltu_jax.core.margins import log_odds

    images, labels = pixels_and_labels(photos)
    padded = np.concatenate([images, np.zeros((-len(images) % 100, *images.shape[1:]), np.uint8)])  # one shape compiled
    batches = padded.reshape(-1, 100, *images.shape[1:]) / np.float32(255)
    logits = np.concatenate([np.asarray(_forward()(weights, batch)) for batch in batches])[: len(images)]
    return np.asarray(log_odds(jnp.asarray(logits), jnp.asarray(labels))), logits.argmax(-1) == labels


def correct(weights: dict[str, Any], photos: Photos) -> np.ndarray:
    """Which of the photos the model names rightly, bool[M]."""
    return margins(weights, photos)[1]


def write_case(folder: Path, case: Case) -> None:
    """Photos, weights, configuration and ids of a case."""
    import flax.serialization
    from PIL import Image

    ids = []
    for part, photos in (("train", case.forget + case.remain), ("test", case.test)):
        for photo in photos:
            ids.append(f"{part}/{photo.label}/{photo.name}.png")
            path = folder / "photos" / ids[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(photo.pixels)).save(path, compress_level=1)
    ids = ids[: len(case.forget)]
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    (folder / "mine.py").write_text(case.config)
    (folder / "model.msgpack").write_bytes(flax.serialization.msgpack_serialize(case.weights))
    case.files(folder, ids)
