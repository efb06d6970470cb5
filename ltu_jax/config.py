"""Every setting there is: plain dataclasses, one default and one meaning each.

This module imports no JAX, so that ``--help`` and a
configuration error answer at once. A configuration file is a Python file with a function
``get_config(method="ltu") -> Config`` that names only what differs from the defaults below;
the defaults themselves are the embedded digits problem, which needs no download.

``overrides`` reads the types of fields at run time: do not add
``from __future__ import annotations`` here, it would turn every type into a string.
"""

import dataclasses
import types
from typing import Any

from ltu_jax.methods.registry import (  # noqa: F401, what a configuration file may name
    AMUN,
    LTU,
    METHOD_CONFIGS,
    MOST_EPOCHS,
    MOST_IMAGES,
    MSG,
    SSD,
    Amnesiac,
    BadTeacher,
    Descent,
    Finetune,
    Fisher,
    GradientAscent,
    L1Sparse,
    LoTUS,
    NegGradPlus,
    PartialRetrain,
    RandomLabel,
    Retrain,
    SalUn,
    Scrub,
    SFROn,
    method_config,
    needs,
)
from ltu_jax.models.families import CIFAR10_MEAN, CIFAR10_STD, LARGEST_SIDE, Model  # noqa: F401
from ltu_jax.setting import ConfigError, allowed_names, check, setting, settings

LAST_SEED = 2**32 - 1
"""JAX's random keys take 32 bits, and drop what is above them without a word."""
MOST_ROWS = 2**31 - 1
"""Rows are numbered in 32 bits, and so are steps."""
MOST_CLASSES = 100_000


@dataclasses.dataclass
class Seeds:
    """Three seeds, so that one can be varied alone; each follows ``config.seed`` unless given."""

    train: int | None = setting(None, "original, Retrain, shadows and attackers", low=0, high=LAST_SEED)
    split: int | None = setting(None, "which rows are train, reserve, forget and the rho subset", low=0, high=LAST_SEED)
    unlearn: int | None = setting(None, "the unlearning run itself", low=0, high=LAST_SEED)


@dataclasses.dataclass
class Data:
    """The images, and how they are cut."""

    name: str = setting(
        "digits",
        "'digits' (embedded), 'folder', 'table', 'arrays', 'tiny_imagenet', a TFDS image-classification data set, or"
        " 'mypackage.module:read' of your own",
        within=True,
    )
    data_dir: str | None = setting(
        None, "where the data lies; else TFDS_DATA_DIR, else ~/tensorflow_datasets", path=True
    )
    table: str | None = setting(
        None,
        "of data.name table: CSV or Parquet file with the columns path (within data_dir, else beside the file), label,"
        " id (else the path) and part (train or test; else all are train)",
        path=True,
    )
    class_names: tuple[str, ...] = setting(
        (), "the model's classes in their order, where the data name them; () takes the names found, sorted"
    )
    num_classes: int | None = setting(
        None,
        "of data.name table or arrays: number of classes, labelled from 0; unset: the largest label found plus one",
        low=2,
        high=MOST_CLASSES,
    )
    skip_unreadable: bool = setting(False, "leave out images that cannot be decoded, and say how many, else stop")
    memory_map: str | None = setting(
        None,
        "folder that keeps the decoded images as one file, mapped into memory; unset reads them into memory",
        path=True,
    )
    stream: str = setting(
        "auto",
        "images on the device, or on the host and fetched ahead batch by batch; auto: on the host above a quarter of"
        " the device's memory",
        choices=("auto", "device", "host"),
    )
    image_size: int | None = setting(
        None, "height and width that images are resized to; unset keeps them", low=4, high=LARGEST_SIDE
    )
    shorter_side: int | None = setting(
        None,
        "what the shorter side is resized to before the middle of image_size is cut out, as torchvision's Resize and"
        " CenterCrop do; unset cuts nothing, and image_size does not keep the aspect ratio",
        low=4,
        high=LARGEST_SIDE,
    )
    classes: tuple[int, ...] = setting(
        (), "keep only these labels, renumbered in this order; () keeps all", low=0, high=MOST_CLASSES - 1
    )
    superclasses: tuple[int, ...] = setting(
        (),
        "coarse label of each label, for forget_kind subclass where the data set has none; () takes the data set's",
        low=0,
        high=MOST_CLASSES - 1,
    )
    train_size: int | None = setting(
        None, "rows the original trains on; unset takes all there are", low=2, high=MOST_ROWS
    )
    validation_fraction: float = setting(
        0.1, "rows never trained on, as a fraction of the training part", low=0, high=0.5
    )
    reserve_size: int | None = setting(
        None,
        "rows set aside to guide the forgetting; unset takes 2 x train_size from the spare rows, or a tenth of the"
        " training part where train_size is unset, or a third of the test part (held_out test)",
        low=4,
        high=MOST_ROWS,
    )
    test_size: int | None = setting(
        None, "rows of the test part used; unset takes all, or a third (held_out test)", low=1, high=MOST_ROWS
    )
    held_out: str = setting(
        "auto",
        "where rows that were never trained on come from: the training part, cut, or the test part, the training part"
        " being trained on as a whole; auto: test where config.weights are given and there is a test part",
        choices=("auto", "train", "test"),
    )
    test_fraction: float = setting(0.2, "test part where the data set has none of its own", above=0, high=0.9)
    augment: str = setting("none", "augmentation in training and unlearning", choices=("none", "flip", "crop_flip"))
    forget_kind: str = setting(
        "random",
        "what is forgotten: a random fraction, a class, a fine class within the coarse ones, a list of ids, the hardest"
        " or easiest fraction, or canaries: rows that are trained on with a wrong label",
        choices=("random", "class", "subclass", "ids", "hard", "easy", "canaries"),
    )
    forget_fraction: float = setting(
        0.1, "fraction of the training rows to forget (forget_kind random, hard, easy)", above=0, high=0.9
    )
    forget_class: int = setting(
        0, "label to forget (forget_kind class), fine label (subclass)", low=0, high=MOST_CLASSES - 1
    )
    forget_ids: str | None = setting(None, "file with one id a line (forget_kind ids)", path=True)
    difficulty: str | None = setting(
        None,
        "how hard each training row is (forget_kind hard, easy): what python -m ltu_jax.difficulty wrote of the same"
        " training rows, so of the same config.seeds.split",
        path=True,
    )
    canaries: int | None = setting(
        None,
        "training rows that get a wrong label (forget_kind canaries); a coin for each says whether it is trained on and"
        " forgotten, or in no set at all; unset: 200",
        low=20,
        high=MOST_ROWS,
    )
    remain_fraction: float = setting(0.3, "rho: fraction of the remaining rows that a method may see", above=0, high=1)


UNLIKE_HELD_OUT = ("hard", "easy", "canaries")
"""Kinds of forget rows that no held-out row is like: nothing but Retrain tells how they should score."""


@dataclasses.dataclass
class Training:
    """The recipe that trains the original, Retrain and the shadows alike: SGD with momentum."""

    epochs: int = setting(60, "passes over the training rows", low=1, high=MOST_EPOCHS)
    batch_size: int = setting(50, "images a step", low=1, high=MOST_IMAGES)
    learning_rate: float = setting(0.1, "peak learning rate", above=0, high=1000)
    momentum: float = setting(0.9, "SGD momentum", low=0, high=0.9999)
    weight_decay: float = setting(5e-4, "L2 coefficient, added to the gradient of every parameter", low=0, high=1000)
    schedule: str = setting("cosine", "learning rate over the run", choices=("cosine", "multistep", "constant"))
    milestones: tuple[int, ...] = setting(
        (91, 136), "epochs at which multistep divides the rate by ten", low=0, high=MOST_EPOCHS
    )
    warmup_epochs: float = setting(1.0, "epochs of linear warm-up", low=0, high=MOST_EPOCHS)


NO_GUIDANCE_AUC = 0.55
"""AUC of an attacker on shadow members: with no more than this it cannot guide the forgetting."""


@dataclasses.dataclass
class Attackers:
    """The membership-inference attackers that guide the forgetting (sec. 3.2); never the one that evaluates."""

    names: tuple[str, ...] = setting(
        ("sorted", "labelled", "metrics", "classwise"),
        "architectures in the bank, at least two: support and query are different ones; or 'mypackage.module:network'"
        " of your own",
        choices=("sorted", "labelled", "metrics", "classwise"),
        custom=True,
    )
    fitted_on: str = setting(
        "auto",
        "whose outputs the attackers learn from: shadow models of the reserve, or the original itself, the rho subset"
        " against the reserve, which costs next to nothing; auto: shadows, unless config.weights are given",
        choices=("auto", "shadows", "original"),
    )
    num_shadows: int = setting(3, "shadow models; the last is held out to report the attackers' AUC", low=2, high=64)
    draws: int = setting(
        4, "augmented passes over each shadow's rows that the attackers are fitted on", low=1, high=1000
    )
    epochs: int = setting(30, "passes of each attacker's fit over the shadow outputs", low=1, high=MOST_EPOCHS)
    batch_size: int = setting(256, "shadow outputs a step of the fit", low=2, high=MOST_IMAGES)
    learning_rate: float = setting(1e-3, "Adam learning rate of the fit", above=0, high=1000)


@dataclasses.dataclass
class Evaluation:
    """What the result is compared with, and how it is scored."""

    num_retrain: int = setting(1, "Retrain models to compare with; 0 compares with none", low=0, high=64)
    batch_size: int = setting(500, "images a forward pass", low=1, high=MOST_IMAGES)
    measure: str | None = setting(
        None,
        "figures of your own in result.json: 'mypackage.module:measure', measure(problem, state) -> numbers by name",
        custom=True,
    )


@dataclasses.dataclass
class Calibration:
    """How a request (``--forget``) finds out how hard to forget, without a Retrain to compare with."""

    trials: int = setting(6, "learning rates tried; 0 takes those of config.method as they are", low=0, high=100)
    factor: float = setting(10.0, "how far from method.learning_rate they may lie, up and down", above=1, high=1e6)
    evaluations: int = setting(
        10, "times that a trial looks how far it is; the best of them is where it stops", low=2, high=1000
    )
    patience: int = setting(
        3, "looks in a row, clearly worse than one before, after which a trial is given up", low=1, high=1000
    )
    tolerance: float = setting(
        2.0, "points of accuracy that may be lost beyond noise, on remaining and on held-out rows", low=0, high=100
    )


@dataclasses.dataclass
class Config:
    """One run of ``python -m ltu_jax.unlearn``."""

    seed: int = setting(0, "sets the three seeds that are not given", low=0, high=LAST_SEED)
    num_seeds: int = setting(
        1, "runs this many seeds, from seed on; each is a folder seed-N of the workdir", low=1, high=1000
    )
    at_once: int | None = setting(
        None,
        "models trained or unlearned in one program; unset: 1 on a CPU, elsewhere up to 4 of several seeds",
        low=1,
        high=1000,
    )
    seeds: Seeds = dataclasses.field(default_factory=Seeds)
    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    weights: str | None = setting(
        None,
        "file or folder with the original's trained weights, of which the unlearned ones are written back alike:"
        " .safetensors, .pth, .pt, .bin or .ckpt by torch.save, .msgpack by flax.serialization, a folder by Orbax;"
        " unset trains it on the training rows",
        path=True,
    )
    training: Training = dataclasses.field(default_factory=Training)
    attackers: Attackers = dataclasses.field(default_factory=Attackers)
    method: Any = dataclasses.field(default_factory=LTU)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    log_every: int = setting(1, "steps between two rows of metrics.jsonl", low=1, high=MOST_ROWS)
    logger: str | None = setting(
        None,
        "where the rows of metrics.jsonl go too: tensorboard, or 'mypackage.module:make' of your own,"
        " make(workdir, config) -> log(row)",
        choices=("tensorboard",),
        custom=True,
    )
    save_every: int = setting(50, "steps of unlearning between two checkpoints", low=1, high=MOST_ROWS)
    save_seconds: float = setting(
        60.0,
        "seconds after which training and unlearning are saved in any case; SIGTERM saves at once",
        low=0,
        high=1e6,
    )
    eval_every: int = setting(
        0, "steps between two scorings during the run, the best is kept; 0: none", low=0, high=MOST_ROWS
    )

    def seed_for(self, purpose: str) -> int:
        """The seed of ``train``, ``split`` or ``unlearn``: its own, or ``seed``."""
        own = getattr(self.seeds, purpose)
        return self.seed if own is None else own


def resolve(config: Config) -> Config:
    """Checks every field and fills the seeds; what comes out is what a run is a function of.

    Of several seeds it is ``each_seed`` that fills them.

    Raises:
      ConfigError: one line that names the field, the value and what is allowed.
    """
    _check_fields(config)
    name = config.method.name
    if ":" not in name and name not in METHOD_CONFIGS:
        raise ConfigError(f"config.method.name: {name!r} is unknown; {allowed_names(name, METHOD_CONFIGS)}")
    if ":" not in name and type(METHOD_CONFIGS[name]()) is not type(config.method):
        raise ConfigError(f"config.method.name: {name!r} has settings of its own; allowed: --config FILE.py:{name}")
    names = config.attackers.names
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"config.attackers.names: {names!r} leaves no pair; allowed: two or more, all different")
    if getattr(config.method, "samplers", True) == ():
        raise ConfigError("config.method.samplers: () draws nothing; allowed: one or more of its names")
    if name == "ltu" and config.method.relabel == "never" and config.method.order != "none":
        raise ConfigError(
            f"config.method.relabel: 'never' leaves order {config.method.order!r} no support set; allowed: step, once,"
            " or order none"
        )
    kind = config.data.forget_kind
    if kind == "ids" and config.data.forget_ids is None:
        raise ConfigError("config.data.forget_ids: None; allowed: a file with one id a line, with forget_kind=ids")
    check_forget_class(config.data, is_given=config.data.forget_class != 0)
    size, shorter = config.data.image_size, config.data.shorter_side
    if shorter is not None and (size is None or shorter < size):
        raise ConfigError(
            f"config.data.shorter_side: {shorter} with image_size {size}; allowed: image_size or more, and both set"
        )
    if kind in ("hard", "easy") and config.data.difficulty is None:
        raise ConfigError(
            f"config.data.difficulty: None; allowed: what python -m ltu_jax.difficulty wrote, with forget_kind={kind}"
        )
    if kind == "canaries" and config.weights is not None:
        raise ConfigError(
            f"config.weights: {config.weights!r} saw no canaries in training; allowed: unset, with forget_kind=canaries"
        )
    if config.attackers.fitted_on == "auto":
        fitted_on = "shadows" if config.weights is None else "original"
        config = dataclasses.replace(config, attackers=dataclasses.replace(config.attackers, fitted_on=fitted_on))
    if config.num_seeds > 1:
        return config
    seeds = {field.name: config.seed_for(field.name) for field in dataclasses.fields(Seeds)}
    return dataclasses.replace(config, seeds=Seeds(**seeds))


def _check_fields(config: Config) -> None:
    for field in dataclasses.fields(config):
        group, kind = getattr(config, field.name), field.type
        if field.name == "method":
            if not dataclasses.is_dataclass(group) or not isinstance(getattr(group, "name", None), str):
                raise ConfigError(f"config.method: {group!r}; allowed: a dataclass with the method's name")
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and not isinstance(group, kind):
            raise ConfigError(f"config.{field.name}: {group!r}; allowed: ltu_jax.config.{kind.__name__}")
        if dataclasses.is_dataclass(group):
            _check_names(group, f"config.{field.name}")
    _check_names(config, "config")
    for name, value, field in settings(config):
        if field.metadata:
            check(name, value, field)


def check_forget_class(data: Data, *, is_given: bool) -> None:
    """Refuses a class to forget where no class is forgotten.

    Raises:
      ConfigError: names the field and ``forget_kind``.
    """
    if is_given and data.forget_kind not in ("class", "subclass"):
        raise ConfigError(
            f"config.data.forget_class: {data.forget_class!r}, but config.data.forget_kind is {data.forget_kind!r};"
            " allowed: with forget_kind class or subclass"
        )


def _check_names(group: Any, name: str) -> None:
    """Refuses an attribute that is no field, such as a misspelt one; classes of the user's own may have some."""
    known = [field.name for field in dataclasses.fields(group)]
    if type(group).__module__.startswith("ltu_jax.") and (wrong := sorted(set(vars(group)) - set(known))):
        raise ConfigError(f"{name}.{wrong[0]}: no such field; {allowed_names(wrong[0], known)}")


def from_dict(stored: dict[str, Any]) -> Config:
    """The configuration that ``setting.to_dict`` made a dictionary of, such as a ``config.json``.

    Settings of a method of one's own come back as a plain namespace: enough to look at, not to run it.

    Raises:
      ConfigError: if a field is missing, unknown or not what it may be.
    """
    config = Config()
    if not isinstance(stored, dict) or not isinstance(stored.get("method"), dict):
        raise ConfigError("config.method: not there; allowed: the same version of ltu_jax")
    name = str(stored["method"].get("name"))
    config.method = METHOD_CONFIGS[name]() if name in METHOD_CONFIGS else types.SimpleNamespace(**stored["method"])
    _fill(config, stored, "config")
    for name, value, field in settings(config):
        if field.metadata:
            check(name, value, field)
    return config


def _fill(config: Any, stored: dict[str, Any], name: str) -> None:
    known = vars(config)
    needed = {field for field, value in known.items() if value is not None}  # older files lack some that are unset
    if wrong := (set(stored) - set(known)) | (needed - set(stored)):
        field = sorted(wrong)[0]
        raise ConfigError(f"{name}.{field}: no such field on one side; allowed: the same version of ltu_jax")
    for field, value in stored.items():
        is_group = hasattr(known[field], "__dict__")
        if is_group != isinstance(value, dict):
            raise ConfigError(f"{name}.{field}: {value!r}; allowed: {'fields' if is_group else 'no fields'} of its own")
        if is_group:
            _fill(known[field], value, f"{name}.{field}")
        else:
            setattr(config, field, tuple(value) if isinstance(value, list) else value)


BESIDE = ("at_once", "logger", "save_seconds")
"""Fields that no result is a function of."""
LATER = ("difficulty", "canaries", "measure", "shorter_side")
"""Fields that were not there at first: unset, they are left out of hashes, so that none of an older run moves."""


def asked_for(settings: dict[str, Any]) -> dict[str, Any]:
    """What of the settings (``to_dict``) a result is a function of: not where images lie, or what runs beside it."""
    groups = {}
    for group in ("data", "evaluation"):
        stored = settings.get(group)
        groups[group] = {
            name: value
            for name, value in (stored if isinstance(stored, dict) else {}).items()
            if name not in ("memory_map", "stream") and not (name in LATER and value is None)
        }
    return {name: value for name, value in settings.items() if name not in BESIDE} | groups


def each_seed(config: Config) -> list[Config]:
    """The runs that a resolved configuration stands for; a seed that is given by itself is the same in all."""
    seeds = range(config.seed, config.seed + config.num_seeds)
    return [resolve(dataclasses.replace(config, seed=seed, num_seeds=1)) for seed in seeds]
