"""The set-ups of ``wrong_set_ups.py``: what an engineer has before the command is typed, and what is wrong with it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reliability.photos import FORGET, NAMES, SEED, Case, Photos, World, correct

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
