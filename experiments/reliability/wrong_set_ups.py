"""Deletion requests that are set up wrong, by the real command: each must be refused, or end as not shown.

export TFDS_DATA_DIR=...
python experiments/reliability/wrong_set_ups.py --out runs/wrong

Images of cifar10_jpeg (CIFAR-10 encoded again, not the original pixels) of four classes: 1,000 that a ResNet-18 of
width 8 is trained on, once, 80 of them to be forgotten, and 300 held out. Each set-up is a folder of its own with what
an engineer would have there. Status 2 is a refusal before anything is trained, status 4 says that forgetting is not
shown; status 0 is right for the controls alone.

Beside what the command says stands what the new weights are really like, which no engineer could measure: with the
right preprocessing, on the very images that somebody asked to have forgotten, and on 1,000 images that no set-up uses.
A set-up whose outcome is recorded in --out is not run again. It takes two hours of one busy core.
"""

import argparse
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
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
OWN_MODEL = """import dataclasses

import jax

from ltu_jax.models.build import ModelSpec, build_model


def build(model, num_classes, image_shape):
    net = build_model(dataclasses.replace(model, name="resnet18"), num_classes, image_shape)

    def apply_fn(params, model_state, images, train):
        logits, model_state = net.apply_fn(params, model_state, images, train=train)
        return OUTPUT, model_state

    return ModelSpec(net.init, apply_fn, net.features)
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


@dataclasses.dataclass(frozen=True)
class SetUp:
    """A name, what is wrong (a control: what is special), the statuses that are right, and how it comes about."""

    name: str
    what: str
    expected: tuple[int, ...]
    change: Callable[[Case, World], Case]


def edit(photos: Photos, pixels: Callable[[np.ndarray], np.ndarray]) -> Photos:
    """The photos with other pixels."""
    return tuple(dataclasses.replace(photo, pixels=pixels(photo.pixels)) for photo in photos)


def all_photos(case: Case, pixels: Callable[[np.ndarray], np.ndarray]) -> Case:
    """The case with every photo changed."""
    return dataclasses.replace(
        case, forget=edit(case.forget, pixels), remain=edit(case.remain, pixels), test=edit(case.test, pixels)
    )


def thumbnail(pixels: np.ndarray, side: int = 12) -> np.ndarray:
    """Made small, and large again."""
    from PIL import Image

    small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))


def with_flags(*words: str) -> Callable[[Case, World], Case]:
    """More words on the command line; a later one wins."""
    return lambda case, world: dataclasses.replace(case, words=(*case.words, *words))


def with_weights(change: Callable[[str, np.ndarray], np.ndarray]) -> Callable[[Case, World], Case]:
    """Every tensor changed, by its name."""

    def changed(case: Case, world: World) -> Case:
        import flax.traverse_util

        flat = flax.traverse_util.flatten_dict(case.weights, sep=".")
        flat = {name: change(name, np.asarray(tensor)) for name, tensor in flat.items()}
        return dataclasses.replace(case, weights=flax.traverse_util.unflatten_dict(flat, sep="."))

    return changed


def fresh_statistics(name: str, tensor: np.ndarray) -> np.ndarray:
    """BatchNorm's statistics as they are before training."""
    if not name.startswith("batch_stats"):
        return tensor
    return np.zeros_like(tensor) if name.endswith("mean") else np.ones_like(tensor)


def last_stage_fresh(name: str, tensor: np.ndarray) -> np.ndarray:
    """The convolutions of the last stage random, as an initialisation leaves them."""
    if "stage4" not in name and "layer4" not in name or tensor.ndim != 4:
        return tensor
    deviation = (2 / np.prod(tensor.shape[:3])) ** 0.5
    return np.random.default_rng(SEED).normal(0, deviation, tensor.shape).astype(np.float32)


def not_a_number(name: str, tensor: np.ndarray) -> np.ndarray:
    """One NaN in the head."""
    if tensor.shape != (len(NAMES),):
        return tensor
    return np.where(np.arange(len(NAMES)) == 0, np.float32("nan"), tensor)


def turned_head(name: str, tensor: np.ndarray) -> np.ndarray:
    """The outputs in the order 1, 2, 3, 0."""
    if not name.startswith("params") or tensor.shape[-1] != len(NAMES) or tensor.ndim > 2:
        return tensor
    return np.roll(tensor, -1, axis=-1)


def turned_and_named(case: Case, world: World) -> Case:
    """Outputs in the order 1, 2, 3, 0, and a configuration that says so."""
    named = with_flags(f"--config.data.class_names={','.join(NAMES[1:] + NAMES[:1])}")
    return named(with_weights(turned_head)(case, world), world)


def own_model(output: str) -> Callable[[Case, World], Case]:
    """A model of one's own that returns something of the logits."""

    def change(case: Case, world: World) -> Case:
        def write(folder: Path, ids: Sequence[str]) -> None:
            (folder / "own.py").write_text(OWN_MODEL.replace("OUTPUT", output))

        return dataclasses.replace(case, files=write, words=(*case.words, "--config.model.name=own:build"))

    return change


def known_held_out(share: float) -> Callable[[Case, World], Case]:
    """A share of the held-out photos was trained on, and is not in the sample of those that stay."""

    def change(case: Case, world: World) -> Case:
        count = round(share * len(case.test))
        test = (*case.remain[-count:], *case.test[count:])
        return dataclasses.replace(case, test=test, remain=case.remain[:-count])

    return change


def answered(right: bool) -> Callable[[Case, World], Case]:
    """Held-out photos of those alone that the model names rightly, or wrongly."""

    def change(case: Case, world: World) -> Case:
        pool = world.held_out + world.more
        hits = correct(world.weights, pool) == right
        return dataclasses.replace(case, test=tuple(np.array(pool, object)[hits])[: len(case.test)])

    return change


def as_table(
    rows: Callable[[list[list[str]]], list[list[str]]], columns: Sequence[str]
) -> Callable[[Case, World], Case]:
    """A CSV of paths, labels and parts; ``rows`` changes its rows."""

    def change(case: Case, world: World) -> Case:
        def write(folder: Path, ids: Sequence[str]) -> None:
            paths = sorted(path.relative_to(folder / "photos") for path in (folder / "photos").rglob("*.png"))
            table = [[path.as_posix(), str(NAMES.index(path.parts[1])), path.parts[0]] for path in paths]
            lines = [",".join(row[: len(columns)]) for row in [list(columns), *rows(table)]]
            (folder / "photos.csv").write_text("\n".join(lines) + "\n")

        words = ("--config.data.name=table", "--config.data.table=photos.csv")
        return dataclasses.replace(case, files=write, words=(*case.words, *words))

    return change


def labels_sorted(table: list[list[str]]) -> list[list[str]]:
    """Rows shuffled as an export has them, and then the labels sorted, and they alone."""
    table = [table[row] for row in np.random.default_rng(SEED).permutation(len(table))]
    for part in ("train", "test"):
        rows = [row for row in table if row[2] == part]
        for row, label in zip(rows, sorted(row[1] for row in rows), strict=True):
            row[1] = label
    return table


def arrays_reshaped(case: Case, world: World) -> Case:
    """Pixels that lay channel by channel, and were reshaped where they should have been transposed."""

    def write(folder: Path, ids: Sequence[str]) -> None:
        for part, photos in (("train", case.forget + case.remain), ("test", case.test)):
            images = np.stack([photo.pixels.transpose(2, 0, 1).reshape(photo.pixels.shape) for photo in photos])
            names = np.array([f"{part}/{photo.label}/{photo.name}.png" for photo in photos])
            labels = np.array([NAMES.index(photo.label) for photo in photos], np.int32)
            np.savez(folder / f"{part}.npz", images=images, labels=labels, ids=names)

    return dataclasses.replace(
        case, files=write, words=(*case.words, "--config.data.name=arrays", "--config.data.data_dir=.")
    )


def ids_without_folders(case: Case, world: World) -> Case:
    """Ids as the request's e-mail has them: names of files."""

    def write(folder: Path, ids: Sequence[str]) -> None:
        (folder / "ids.txt").write_text("\n".join(name.rpartition("/")[2] for name in ids) + "\n")

    return dataclasses.replace(case, files=write)


def mirrored(photos: Photos) -> Photos:
    """Mirror images under names of their own."""
    return tuple(dataclasses.replace(p, name=f"{p.name}_flip", pixels=p.pixels[:, ::-1]) for p in photos)


def in_one_class(photos: Photos) -> Photos:
    """All in the first class's folder."""
    return tuple(dataclasses.replace(photo, label=NAMES[0]) for photo in photos)


def of_class(photos: Photos, label: str, yes: bool = True) -> Photos:
    """Those of a class, or of all others."""
    return tuple(photo for photo in photos if (photo.label == label) == yes)


def whole_class(case: Case, world: World) -> Case:
    """Eighty cats to forget, and no cat held out."""
    cats = of_class(case.forget + case.remain, "cat")[:FORGET]
    names = {photo.name for photo in cats}
    remain = tuple(photo for photo in case.forget + case.remain if photo.name not in names)
    return dataclasses.replace(case, forget=cats, remain=remain, asked=cats, test=of_class(case.test, "cat", yes=False))


def change(**fields: Callable[[Case, World], Any]) -> Callable[[Case, World], Case]:
    """Some fields of the case by functions of case and world."""
    return lambda case, world: dataclasses.replace(case, **{name: of(case, world) for name, of in fields.items()})


NEVER, EITHER, REFUSED, SHOWN = (4,), (2, 4), (2,), (0,)
SET_UPS = (
    SetUp("control_folder", "control: as the page has it", SHOWN, lambda case, world: case),
    SetUp(
        "control_table",
        "control: a table of paths, labels and parts",
        SHOWN,
        as_table(lambda rows: rows, ("path", "label", "part")),
    ),
    SetUp(
        "control_class_names",
        "control: outputs in an order of their own, and `class_names` says which",
        SHOWN,
        turned_and_named,
    ),
    SetUp(
        "probabilities",
        "a model of one's own returns probabilities, not logits",
        EITHER,
        own_model("jax.nn.softmax(logits)"),
    ),
    SetUp(
        "complaints",
        "held out: photos that customers complained of, all named wrongly by the model",
        EITHER,
        answered(right=False),
    ),
    SetUp(
        "passed_quality",
        "held out: photos that passed a quality check, all named rightly by the model",
        EITHER,
        answered(right=True),
    ),
    SetUp(
        "mirror_images",
        "augmentation saved to disk: a mirror image of each forgotten photo stays",
        EITHER,
        change(remain=lambda case, world: case.remain + mirrored(case.forget)),
    ),
    SetUp(
        "thumbnails",
        "the files to forget are the requester's thumbnails (12x12, enlarged), not those trained on",
        EITHER,
        change(forget=lambda case, world: edit(case.forget, thumbnail)),
    ),
    SetUp(
        "night_camera",
        "held out: photos of another camera, at a third of the light",
        EITHER,
        change(test=lambda case, world: edit(case.test, lambda pixels: (pixels * 0.33).astype(np.uint8))),
    ),
    SetUp(
        "catch_all_folder",
        "the files to forget were moved into one class's folder",
        EITHER,
        change(forget=lambda case, world: in_one_class(case.forget)),
    ),
    SetUp(
        "placeholders",
        "the files to forget are grey placeholders, the storage has deleted them",
        EITHER,
        change(forget=lambda case, world: edit(case.forget, lambda pixels: np.full_like(pixels, 128))),
    ),
    SetUp(
        "newer_photos",
        "the photos to forget were uploaded after the model was trained",
        EITHER,
        change(forget=lambda case, world: world.others[:FORGET], asked=lambda case, world: world.others[:FORGET]),
    ),
    SetUp(
        "sample_never_trained",
        "the sample that stays is of new photos, none of them trained on",
        EITHER,
        change(remain=lambda case, world: world.others),
    ),
    SetUp(
        "other_photos",
        "the weights are of a model of other photos of the same classes",
        EITHER,
        change(
            forget=lambda case, world: world.others[:FORGET],
            remain=lambda case, world: world.others[FORGET:],
            asked=lambda case, world: world.others[:FORGET],
        ),
    ),
    SetUp(
        "held_out_trained",
        "the model was refitted on the held-out photos too (not in the sample)",
        EITHER,
        known_held_out(1.0),
    ),
    SetUp(
        "half_held_out_trained",
        "half of the held-out photos were trained on (not in the sample)",
        EITHER,
        known_held_out(0.5),
    ),
    SetUp(
        "held_out_of_train",
        "`held_out=train`, though the model was trained on all of train",
        EITHER,
        with_flags("--config.data.held_out=train"),
    ),
    SetUp(
        "no_part",
        "a table without its column `part`, so all counts as trained on",
        EITHER,
        as_table(lambda rows: rows, ("path", "label")),
    ),
    SetUp("no_cats_held_out", "80 cats to forget, and no cat held out", EITHER, whole_class),
    SetUp(
        "first_shard",
        "the sample that stays is the first shard of a sorted export: airplanes alone",
        EITHER,
        change(remain=lambda case, world: of_class(case.remain, NAMES[0])),
    ),
    SetUp(
        "tiny_rate",
        "a rate of 1e-7, not 1e-3, and no calibration",
        NEVER,
        with_flags("--config.calibration.trials=0", "--config.method.learning_rate=1e-7"),
    ),
    SetUp(
        "huge_rate",
        "a rate of 0.3, not 3e-4, and no calibration",
        NEVER,
        with_flags("--config.calibration.trials=0", "--config.method.learning_rate=0.3"),
    ),
    SetUp(
        "forget_off", "`method.forget=False`, left from an ablation", EITHER, with_flags("--config.method.forget=False")
    ),
    SetUp(
        "no_weights",
        "`weights` is missing in mine.py, so another model is trained and unlearned",
        EITHER,
        change(config=lambda case, world: case.config.replace('        weights="model.msgpack",\n', "")),
    ),
    SetUp(
        "fresh_statistics",
        "BatchNorm's statistics were not saved: zeros and ones",
        REFUSED,
        with_weights(fresh_statistics),
    ),
    SetUp(
        "last_stage_fresh",
        "the last stage is random: names did not fit, `strict=False`",
        REFUSED,
        with_weights(last_stage_fresh),
    ),
    SetUp("not_a_number", "training diverged: a NaN in the weights", REFUSED, with_weights(not_a_number)),
    SetUp(
        "labels_sorted",
        "a spreadsheet's column of labels was sorted by itself",
        REFUSED,
        as_table(labels_sorted, ("path", "label", "part")),
    ),
    SetUp(
        "arrays_reshaped",
        "arrays channel by channel, reshaped where they should be transposed",
        REFUSED,
        arrays_reshaped,
    ),
    SetUp(
        "turned_photos",
        "the export turned all photos by 90 degrees",
        REFUSED,
        lambda case, world: all_photos(case, np.rot90),
    ),
    SetUp("ids_without_folders", "ids are names of files without their folders", REFUSED, ids_without_folders),
)


def main() -> None:
    """Parses the arguments, makes the model, runs what is not recorded, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names of set-ups, separated by commas")
    parser.add_argument("--trials", type=int, default=1, help="of calibration")
    args = parser.parse_args()
    set_ups = {one.name: one for one in SET_UPS}
    wanted = args.only.split(",") if args.only else list(set_ups)
    if unknown := set(wanted) - set_ups.keys():
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown")
    args.out.mkdir(parents=True, exist_ok=True)

    world = None
    for name in wanted:
        record = args.out / name / "outcome.json"
        if not record.exists():
            world = world or make_world(args.out)
            outcome = run(set_ups[name], world, args.out, args.trials)
            record.write_text(json.dumps(outcome, indent=1) + "\n")
            print(f"{name}: status {outcome['status']}, {outcome['seconds']:.0f} s", file=sys.stderr, flush=True)
    print_table(args.out)


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


def auc(one: np.ndarray, other: np.ndarray) -> float:
    """Probability that one of the first lies above one of the second."""
    return float((one[:, None] > other).mean() + (one[:, None] == other).mean() / 2)


def truth(weights: dict[str, Any], case: Case, world: World) -> dict[str, float]:
    """AUC of the images really asked for against unseen ones, and accuracies in percent."""
    asked, asked_hits = margins(weights, case.asked)
    unseen, unseen_hits = margins(weights, world.unseen)
    stay = {photo.name for photo in world.forget + world.remain} - {photo.name for photo in case.asked}
    remain = correct(weights, tuple(photo for photo in world.forget + world.remain if photo.name in stay))
    hits = {"forget": asked_hits, "remain": remain, "unseen": unseen_hits}
    return {"auc": auc(asked, unseen), **{name: 100 * float(of.mean()) for name, of in hits.items()}}


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


def run(one: SetUp, world: World, out: Path, trials: int) -> dict[str, Any]:
    """Carries out one request: its status, what it said, and what the weights are really like before and after."""
    import flax.serialization

    start = Case(world.forget, world.remain, world.held_out, world.weights, world.forget)
    case = one.change(dataclasses.replace(start, words=(f"--config.calibration.trials={trials}",)), world)
    folder = out / one.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_case(folder, case)
    words = ["-m", "ltu_jax.unlearn", "--config", "mine.py", *case.words]
    words += ["--forget", "ids.txt", "--workdir", "out", "--cache", "../cache"]
    turned = one.change is turned_and_named  # its outputs are not in the order of the labels here
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    (folder / "said.txt").write_text(f"{done.stdout}\n--- stderr\n{done.stderr}")
    outcome = {
        "command": " ".join(["python", *words]),
        "status": done.returncode,
        "seconds": seconds,
        "wrote": (folder / "out").exists(),
        "before": {} if turned else truth(case.weights, case, world),
    }
    weights = folder / "out" / "request-1" / "weights" / "model.msgpack"
    if weights.exists() and not turned:
        outcome["after"] = truth(dict(flax.serialization.msgpack_restore(weights.read_bytes())), case, world)
    return outcome


def answer(text: str) -> str:
    """What a command said that matters, in one line: the refusal; or warnings and verdict with the first reason."""
    lines = [line.strip() for line in text.splitlines()]
    if errors := [line for line in lines if line.startswith("error: ")]:
        return errors[-1]
    wrapped, verdict = " ".join(lines).partition(" receipt in ")[0], "forgetting is"
    if verdict not in wrapped:
        return " ".join(lines[-3:])
    first, *more = wrapped.partition(verdict)[2].split(": - ")
    reasons = more[0].split(" - ") if more else []
    others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    before = wrapped.partition(verdict)[0]
    warnings = ["Warning:" + before.partition("Warning:")[2].rstrip()] if "Warning:" in before else []
    return " / ".join([*warnings, verdict + first + "".join(f": {reason}" for reason in reasons[:1]) + others])


def print_table(out: Path) -> None:
    """A row for each set-up that was run, and which of them ended with a status that is not right.

    Before and after: ``AUC`` of the images asked for against unseen ones, accuracies on them, on the others that the
    model was trained on, and on unseen ones, percent; where nothing was written there is nothing to compare.
    """
    print("| set-up | what is wrong | right | status | s | AUC | asked | stay | unseen | what was said |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong = []
    for one in SET_UPS:
        record = out / one.name / "outcome.json"
        if record.exists():
            outcome = json.loads(record.read_text())
            text = answer((out / one.name / "said.txt").read_text())
            right = " or ".join(map(str, one.expected))
            ends = [outcome["before"], outcome["after"]] if "after" in outcome else []
            figures = [" to ".join(f"{end['auc']:.2f}" for end in ends)]
            figures += [" to ".join(f"{end[name]:.0f}" for end in ends) for name in ("forget", "remain", "unseen")]
            status = outcome["status"]
            if status not in one.expected or (status == 2 and outcome["wrote"]):
                wrong.append(one.name)
                status = f"**{status}**"
            cells = [f"`{one.name}`", one.what, right, str(status), f"{outcome['seconds']:.0f}", *figures]
            print("| " + " | ".join([*cells, text.replace("|", "\\|")]) + " |")
    print(f"\nstatus not right: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()
