"""Measures the given model before anything is trained or written: is it the model of these data, set up as it was?

Permuted classes, another normalisation or image size and an untrained model leave their mark: remaining rows, which it
was trained on, are known badly, or no better than held-out rows. What would explain that is tried. A model that
generalises well and memorised nothing is let through with a warning: nothing can be shown of it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ltu_jax.data.records import decode
from ltu_jax.evaluation.likeness import Predictions, attack_auc, comparable, in_rows, matched_weights, predictions
from ltu_jax.models.build import ModelSpec, at_size, normalisation
from ltu_jax.models.families import CIFAR10_MEAN, CIFAR10_STD
from ltu_jax.setting import ConfigError
from ltu_jax.training.predict import EvalForward, predict
from ltu_jax.types import ApplyFn, ArrayTree, Source, Splits

MOST_MEASURED = 2000
"""Most rows of each set that are measured."""
TRIED = 300
"""Remaining rows on which another normalisation or size is tried."""
SURE = 3.0
"""Standard errors beyond which a difference is no chance."""
GAIN = 0.05
"""Share of the rows that another set-up must know more."""
HARDLY = 0.02
"""Share of the held-out rows that may be known more than rows that were trained on."""
KNOWS = 0.9
"""A model that knows this share of its training rows needs no other normalisation."""
SLIGHT = 0.2
"""Cohen's kappa up to which a model agrees with the labels but slightly (Landis and Koch 1977)."""
MODERATE = 0.6
"""Kappa up to which it agrees moderately."""
NOTHING = 0.53
"""AUC of remaining against held-out rows below which nothing was memorised that could be shown to be forgotten."""
LITTLE = 0.55
"""AUC below which another size of the images is tried."""
SIZES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 299, 384)
"""Heights and widths that models are trained at."""
LOOK_AT = (
    "the order of the classes (config.data.class_names), the labels, the normalisation (config.model.mean,"
    " config.model.std), the size of the images (config.data.image_size) and which way up they are, whether all"
    " weights were loaded, with BatchNorm's statistics, and whether the model was trained on these rows"
)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


class GivenModel(NamedTuple):
    """What was measured."""

    figures: dict[str, Any]  # JSON-ready, of whole rows
    warnings: list[str]


def measure_given(
    spec: ModelSpec,
    weights: ArrayTree,
    source: Source,
    splits: Splits,
    *,
    where: str,
    batch_size: int,
    seed: int,
    is_first: bool = True,
) -> GivenModel:
    """Measures a model on rows that stay, rows to forget and held-out rows.

    Args:
      spec: the model.
      weights: ``{"params": ..., **model_state}``.
      source: the data.
      splits: the splits of the request.
      where: names the model in messages.
      batch_size: images a forward pass.
      seed: draws the rows, where there are many.
      is_first: False for a model that an earlier request left, which may know less: only another set-up is refused.

    Raises:
      ConfigError: if its outputs are no logits, the classes stand in another order, the model knows far more in
        another set-up, agrees with the labels but slightly, or does not know remaining rows better than held-out ones
        though it could know more.
    """
    model_state = dict(weights)
    params = model_state.pop("params")
    held_out = np.concatenate([splits.validation, splits.test, splits.reserve])
    rng = np.random.default_rng([seed, 6])
    rows = {
        name: np.sort(rng.permutation(index)[:MOST_MEASURED])
        for name, index in (("remain", splits.remain), ("forget", splits.forget), ("held_out", held_out))
    }
    forward = EvalForward(spec.apply_fn)
    logits = {
        name: predict(forward, params, model_state, source.stored(index), batch_size=batch_size)
        for name, index in rows.items()
    }
    if not all(np.isfinite(one).all() for one in logits.values()):
        raise ConfigError(f"{where} gives outputs that are not finite; allowed: a trained model")
    if all((one >= 0).all() and np.allclose(one.sum(1), 1, atol=1e-3) for one in logits.values()):
        raise ConfigError(f"{where} gives probabilities; allowed: logits, as they are before the softmax")
    measured = {name: predictions(logits[name], source.labels[index]) for name, index in rows.items()}
    known = _known_better(measured["remain"], measured["held_out"])
    agreement = Agreement.of(measured["remain"].labels, logits["remain"].argmax(1), source.num_classes)
    labels, predicted = (
        np.concatenate([of["remain"], of["forget"]])
        for of in ({n: one.labels for n, one in measured.items()}, {n: one.argmax(1) for n, one in logits.items()})
    )
    findings = [*_other_order(labels, predicted, source)]
    if agreement.accuracy < KNOWS:
        some = np.sort(rng.permutation(len(rows["remain"]))[:TRIED])
        model, knew = (spec, params, model_state), measured["remain"].at(some)
        images = source.stored(rows["remain"])[some]
        findings += _better(_normalised(*model, images), knew)
        if known.low < LITTLE:
            findings += _better(_at_sizes(*model, images), knew)
    if findings:
        raise ConfigError(f"{where} {max(findings)[1]}")
    figures = _figures(measured, known, agreement)
    warnings = _judged(figures, known, agreement, where, is_first)
    guesses = Agreement.of(measured["held_out"].labels, logits["held_out"].argmax(1), source.num_classes).high <= SLIGHT
    return GivenModel(figures, [*warnings, *_unlike(measured, guesses and agreement.low > SLIGHT)])


def _judged(figures: dict[str, Any], known: "_Known", agreement: "Agreement", where: str, is_first: bool) -> list[str]:
    """Warns where nothing can be shown.

    Raises:
      ConfigError: where a first model cannot be that of these rows.
    """
    (auc, low, high), rows = figures["known_better_auc"], figures["rows"]
    margins = f"AUC {auc:.3f}, {low:.3f} to {high:.3f}"
    knows = f"knows {figures['remain_accuracy']:.1f} % of {rows['remain']} remaining rows and"
    knows = f"{knows} {figures['held_out_accuracy']:.1f} % of {rows['held_out']} held-out rows"
    wrong = None
    if agreement.high <= SLIGHT:
        wrong = "hardly more than guessing"
    elif known.auc + 2 * (known.high - known.auc) < 0.5:  # four standard errors: parts may merely differ
        wrong = f"held-out rows better than those it was trained on ({margins}), as if the two were exchanged"
    elif known.high < NOTHING and agreement.high < MODERATE:
        wrong = f"those it was trained on no better than held-out ones ({margins})"
    if wrong and is_first:
        allowed = "allowed: a model that knows the rows it was trained on"
        raise ConfigError(f"{where} {knows}, {wrong}; look at {LOOK_AT}; {allowed}")
    if known.low > 0.5:
        return []
    return [
        f"the model from before {knows}, not the former better beyond noise ({margins}): what it does not know it"
        f" cannot be shown to forget; look at {LOOK_AT}"
    ]


def _unlike(measured: dict[str, Predictions], guesses: bool) -> Iterator[str]:
    """What makes rows to forget, or held-out rows, another kind of rows than those that stay.

    Args:
      measured: of ``remain``, ``forget`` and ``held_out``.
      guesses: whether the model guesses on held-out rows, and on remaining ones it does not.
    """
    remain, forget, held_out = (measured[name] for name in ("remain", "forget", "held_out"))
    # Told are the plain accuracies, which the receipt has too: matched ones depend on the classes of the forget rows.
    known = {name: f"{100 * one.correct.mean():.1f} %" for name, one in measured.items()}
    if _is_below(forget, remain, GAIN):
        yield (
            f"the rows to forget are known in {known['forget']}, rows that stay in {known['remain']}, and their classes"
            " do not explain it: look whether the model was trained on them, whether their labels are right, and"
            " whether the images are those that it was trained on, whole; what it does not know it cannot be shown to"
            " forget"
        )
    if guesses:
        yield (
            f"held-out rows are known hardly more than by guessing ({known['held_out']}): look"
            " whether they are images of the same kind as those trained on, with the right labels; forgotten rows are"
            " compared with them"
        )
    if _is_below(remain, held_out, HARDLY):
        yield (
            f"held-out rows are known in {known['held_out']} and rows that stay in only {known['remain']}: look whether"
            " they are a selection, or were trained on as well; forgotten rows are compared with them"
        )


def _is_below(one: Predictions, other: Predictions, least: float) -> bool:
    """Whether fewer of the first are known than of the others of their classes, by ``least`` and beyond chance.

    Rows of a class that the others lack are left out.
    """
    if not np.isin(one.labels, other.labels).any():
        return False
    one = comparable(one, other)
    weights = matched_weights(other.labels, one.labels)
    accuracies = float(one.correct.mean()), float(weights @ other.correct)
    spread = [max(p * (1 - p), 0.01) for p in accuracies]  # of all known, and of none, there is chance left
    error = math.sqrt(spread[0] / len(one.labels) + spread[1] * float(weights @ weights))
    gap = accuracies[1] - accuracies[0]
    return gap >= least and gap > SURE * error


class Agreement(NamedTuple):
    """How predictions agree with labels."""

    accuracy: float
    low: float  # Cohen's kappa: 0 is chance, whatever the shares of the classes
    high: float

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> "Agreement":
        """Kappa with two standard errors (Wilson's interval of the accuracy).

        Args:
          labels: i32[M].
          predicted: i64[M].
          num_classes: C.
        """
        n, z, p = len(labels), 2.0, float(np.mean(labels == predicted))
        shares = [np.bincount(x, minlength=num_classes) / n for x in (labels, predicted)]
        chance = float(shares[0] @ shares[1])
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
        low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
        if max(shares[0]) == 1:  # of one class alone kappa says nothing
            return cls(p, -1.0, 1.0)
        return cls(p, (low - chance) / (1 - chance), (high - chance) / (1 - chance))


class _Known(NamedTuple):
    """AUC of remaining against held-out rows, with two standard errors."""

    auc: float
    low: float
    high: float


def _known_better(remain: Predictions, held_out: Predictions) -> _Known:
    """Standard error by Hanley and McNeil (1982)."""
    auc, n, m = attack_auc(remain, held_out), len(remain.labels), len(held_out.labels)
    one, other = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (n - 1) * (one - auc * auc) + (m - 1) * (other - auc * auc)
    error = math.sqrt(max(variance, 0.25) / (n * m))  # not less than one pair, where all are told apart
    return _Known(auc, auc - 2 * error, auc + 2 * error)


def _figures(measured: dict[str, Predictions], known: _Known, agreement: Agreement) -> dict[str, Any]:
    """Rounded to what one row counts, as all that a receipt tells."""
    sizes = {name: len(one.labels) for name, one in measured.items()}
    fewest = min(sizes["remain"], sizes["held_out"])
    return {
        "rows": sizes,
        **{f"{name}_accuracy": in_rows(100 * float(one.correct.mean()), sizes[name]) for name, one in measured.items()},
        "known_better_auc": [in_rows(value, fewest, unit=1) for value in known],
        "kappa": [in_rows(value, sizes["remain"], unit=1) for value in agreement[1:]],
    }


_Finding = tuple[float, str]
"""The accuracy that a set-up gives, and what is said of it."""


def _other_order(labels: np.ndarray, predicted: np.ndarray, source: Source) -> Iterator[_Finding]:
    """The order of the classes that fits, if it is another one: found on half of the rows, tested on the others."""
    size = source.num_classes
    order = np.random.default_rng(0).permutation(len(labels))
    half, other = order[::2], order[1::2]
    if not len(other):
        return
    output_of = _assignment(labels[half], predicted[half], size)
    knew, knows = (of[labels[other]] == predicted[other] for of in (np.arange(size), output_of))
    agreement = Agreement.of(output_of[labels[other]], predicted[other], size)
    if agreement.low > SLIGHT and _is_gain(knew, knows):
        output_of = _assignment(labels, predicted, size)
        before, then = (100 * float(np.mean(of[labels] == predicted)) for of in (np.arange(size), output_of))
        yield (
            agreement.accuracy,
            f"knows {before:.1f} % of the rows it was trained on, and {then:.1f} % if its outputs are"
            f" {_in_order(source, output_of)}; allowed: the classes in the order of its outputs"
            " (config.data.class_names, or the labels of the data)",
        )


def _assignment(labels: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    """The output of each label, i64[C], that agrees with most rows; its own where nothing tells."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((size, size))
    np.add.at(confusion, (labels, predicted), 1)
    confusion[np.diag_indices(size)] += 0.5
    return linear_sum_assignment(confusion, maximize=True)[1]


def _in_order(source: Source, output_of: np.ndarray) -> str:
    names = source.class_names or tuple(map(str, range(source.num_classes)))
    label_of = np.argsort(output_of)
    if len(names) <= 20:
        return ",".join(names[label] for label in label_of)
    moved = np.flatnonzero(label_of != np.arange(len(names)))
    shown = ", ".join(f"{names[label_of[at]]!r} where {names[at]!r} stands" for at in moved[:5])
    return f"in another order ({len(moved)} differ: {shown})"


def _is_gain(knew: np.ndarray, knows: np.ndarray) -> bool:
    """Whether so many rows, bool[M] each, are known more that it is neither chance nor little."""
    gain = knows.astype(float) - knew
    return bool(gain.mean() >= GAIN and gain.mean() > SURE * gain.std() / math.sqrt(len(gain)))


def _better(tried: Iterator[tuple[str, np.ndarray]], knew: Predictions) -> Iterator[_Finding]:
    """The set-ups by which the model knows far more."""
    for words, logits in tried:
        predicted = logits.argmax(1)
        knows = predicted == knew.labels
        agreement = Agreement.of(knew.labels, predicted, logits.shape[1])
        if agreement.low > SLIGHT and _is_gain(knew.correct, knows):
            before, then = 100 * float(knew.correct.mean()), float(knows.mean())
            yield (
                then,
                f"knows {before:.1f} % of {len(knows)} remaining rows, and {100 * then:.1f} %"
                f" {words}; allowed: images as it was trained on",
            )


@dataclass(frozen=True)
class _Rescaled:
    """Logits of images times a scale plus an offset, both f32[1,1,1,3] and handed over beside ``model_state``."""

    apply_fn: ApplyFn

    def __call__(self, params: ArrayTree, model_state: ArrayTree, images: jax.Array) -> jax.Array:
        model_state, scale, offset = model_state
        return self.apply_fn(params, model_state, images * scale + offset, train=False)[0]


def _normalised(
    spec: ModelSpec, params: ArrayTree, model_state: ArrayTree, images: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Logits f32[M, C] by other normalisations, and by colours the other way round, with words for each."""
    own, pixels = normalisation(spec), images.reshape(-1, 3) / 255
    mean, std = own or ((0.0,) * 3, (1.0,) * 3)
    measured = tuple(pixels.mean(0).tolist()), tuple(np.maximum(pixels.std(0), 1e-3).tolist())

    def ask(images: np.ndarray, by: Normalisation) -> np.ndarray:
        scale, offset = np.array(std) / by[1], mean - np.array(std) * by[0] / by[1]
        more = tuple(np.asarray(x, np.float32).reshape(1, 1, 1, 3) for x in (scale, offset))
        return predict(_Rescaled(spec.apply_fn), params, (model_state, *more), images, batch_size=len(images))

    others: dict[str, Normalisation] = {
        "CIFAR-10's": (CIFAR10_MEAN, CIFAR10_STD),
        "ImageNet's": IMAGENET,
        "from -1 to 1": ((0.5,) * 3, (0.5,) * 3),
        "none, from 0 to 1": ((0.0,) * 3, (1.0,) * 3),
        "none, from 0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
        "measured on these images": measured,
    }
    setting = "config.model." if own else "before it is asked, "
    for name, by in others.items():
        shown = ", ".join(f"{setting}{field}={_short(value)}" for field, value in zip(("mean", "std"), by, strict=True))
        yield f"with another normalisation, {name} ({shown})", ask(images, by)
    yield "of them with red and blue exchanged", ask(np.ascontiguousarray(images[..., ::-1]), (mean, std))


def _short(values: tuple[float, ...]) -> str:
    return "(" + ",".join(f"{value:.4g}" for value in values) + ")"


def _at_sizes(
    spec: ModelSpec, params: ArrayTree, model_state: ArrayTree, images: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Logits f32[M, C] of the images at the next sizes up and down, where the model can take them."""
    side = images.shape[1]
    sizes = [*[x for x in SIZES if x < side][-2:], *[x for x in SIZES if x > side][:2]]
    for size in sizes if side == images.shape[2] else ():
        if (other := at_size(spec, size, params, model_state)) is not None:
            some = np.stack([decode(image, size) for image in images])
            logits = predict(EvalForward(other.apply_fn), params, model_state, some, batch_size=len(some))
            yield f"at {size}x{size} pixels (config.data.image_size; they are {side}x{side})", logits
