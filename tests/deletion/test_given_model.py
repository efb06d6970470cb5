"""Is it the model of these data? Each wrong set-up is named, and an honest model goes through."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.deletion.given_model import Agreement, measure_given
from ltu_jax.models.build import ModelSpec, from_module
from ltu_jax.models.classifier import Classifier
from ltu_jax.setting import ConfigError
from ltu_jax.types import Source, Splits

SIDE = 12
WHERE = "config.weights: the model 'x'"


def as_drawn(params, model_state, images, train):
    """The logits are drawn into the first row of an image, a pixel a class."""
    del params, train
    return images[:, 0, :, 0] * 20, model_state


SPEC = ModelSpec(lambda key: ({}, {}), as_drawn)


def splits_of(num_train, num_rows, num_forget):
    train, held_out = np.arange(num_train), np.array_split(np.arange(num_train, num_rows), 3)
    return Splits(train[:num_forget], train[num_forget:], *held_out, np.zeros(0, np.int64))


def made(labels, predicted, sureness, num_train, num_classes, names=None):
    """Rows of which the model says ``predicted``, so surely."""
    images = np.zeros((len(labels), SIDE, SIDE, 3), np.uint8)
    images[np.arange(len(labels)), 0, predicted, 0] = np.clip(sureness, 1, 255)
    ids = np.array([f"id{i}" for i in range(len(labels))])
    return Source("made", images, labels.astype(np.int32), ids, num_classes, num_train, class_names=names)


def drawn(rng, num_classes, num_train, num_held_out, knows, surer=0.0):
    """Rows known with these probabilities, on the training rows and on held-out ones, the former ``surer``."""
    labels = rng.integers(0, num_classes, num_train + num_held_out)
    is_train = np.arange(len(labels)) < num_train
    is_known = rng.random(len(labels)) < np.where(is_train, *knows)
    others = (labels + rng.integers(1, num_classes, len(labels))) % num_classes
    sureness = rng.normal(100, 40, len(labels)) + surer * is_train
    return made(labels, np.where(is_known, labels, others), sureness, num_train, num_classes)


def measure(source, num_forget=None, spec=SPEC, params=None, is_first=True):
    num_forget = max(1, source.num_train // 10) if num_forget is None else num_forget
    splits = splits_of(source.num_train, len(source.labels), num_forget)
    weights = {"params": params or {}}
    return measure_given(spec, weights, source, splits, where=WHERE, batch_size=500, seed=0, is_first=is_first)


def refused(source, **more):
    with pytest.raises(ConfigError) as caught:
        measure(source, **more)
    assert str(caught.value).startswith(WHERE) and "; allowed: " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


HONEST = {
    "it memorised": (10, 700, 300, (1.0, 0.7), 60),
    "it generalises": (10, 1500, 600, (0.9, 0.89), 0),
    "it generalises perfectly": (10, 700, 300, (1.0, 1.0), 0),
    "two classes": (2, 700, 300, (0.85, 0.84), 0),
    "it underfits, and memorised a little": (10, 1500, 600, (0.6, 0.48), 0),
    "few rows": (4, 12, 9, (0.9, 0.6), 30),
    "few rows and little knowledge": (4, 12, 9, (0.6, 0.5), 0),
    "six held-out rows": (10, 500, 6, (0.95, 0.7), 50),
    "one class": (2, 40, 30, (0.9, 0.7), 0),
}


@pytest.mark.parametrize("case", HONEST)
def test_an_honest_model_is_never_refused(case):
    """Whatever it knows: forty draws of each."""
    num_classes, num_train, num_held_out, knows, surer = HONEST[case]
    for seed in range(40):
        source = drawn(np.random.default_rng(seed), num_classes, num_train, num_held_out, knows, surer)
        if case == "one class":
            source.labels[:] = 0
        measure(source)


def test_what_is_measured_is_what_is_there_to_the_row():
    source = drawn(np.random.default_rng(0), 5, 400, 120, (0.9, 0.6), 40)
    found = measure(source, num_forget=30)
    correct = source.images[:, 0, :, 0].argmax(1) == source.labels
    sets = {"forget": correct[:30], "remain": correct[30:400], "held_out": correct[400:]}
    assert found.figures["rows"] == {name: len(one) for name, one in sets.items()}
    for name, one in sets.items():
        assert found.figures[f"{name}_accuracy"] == pytest.approx(100 * one.mean(), abs=1e-5)
    auc, low, high = found.figures["known_better_auc"]
    rows = np.array([low, auc, high]) * 120
    assert low < auc < high and np.allclose(rows, rows.round(), atol=1e-3)
    assert found.warnings == []


def test_kappa_is_scikit_learns_within_its_bounds_and_chance_is_none_of_it():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    labels = rng.choice(4, 3000, p=(0.85, 0.05, 0.05, 0.05))
    for share in (0.0, 0.5, 1.0):
        predicted = np.where(rng.random(3000) < share, labels, rng.permutation(labels))
        found = Agreement.of(labels, predicted, 4)
        assert found.low <= cohen_kappa_score(labels, predicted) <= found.high + 1e-9
        assert found.high - found.low < 0.3
    constant = Agreement.of(labels, np.zeros(3000, int), 4)  # right in 85 of 100, and knows nothing
    assert constant.accuracy > 0.8 and constant.low < 0 < constant.high < 0.2


@pytest.mark.parametrize("knows", [(1.0, 0.7), (0.7, 0.6)])
@pytest.mark.parametrize("order", [(1, 0, 2, 3, 4), (3, 4, 0, 1, 2), (0, 1, 2, 4, 3)])
def test_permuted_classes_are_refused_and_the_order_that_fits_is_named(order, knows):
    source = drawn(np.random.default_rng(1), 5, 600, 200, knows, 40)
    # The output i is that of the class names[order[i]].
    output_of = np.argsort(order)
    predicted = output_of[source.images[:, 0, :, 0].argmax(1)]
    names = ("ant", "bee", "cat", "dog", "elk")
    permuted = made(source.labels, predicted, np.full(800, 100), 600, 5, names)
    message = refused(permuted)
    assert (
        f"if its outputs are {','.join(names[i] for i in order)};" in message and "config.data.class_names" in message
    )
    numbered = made(source.labels, predicted, np.full(800, 100), 600, 5)
    assert f"if its outputs are {','.join(map(str, order))};" in refused(numbered)
    assert "if its outputs are" in refused(numbered, is_first=False)


def test_of_many_classes_those_that_differ_are_named():
    labels = np.arange(5200) % 26
    output_of = np.arange(26)
    output_of[[3, 7]] = 7, 3
    names = tuple("abcdefghijklmnopqrstuvwxyz")
    images = np.zeros((5200, 4, 26, 3), np.uint8)
    images[np.arange(5200), 0, output_of[labels], 0] = 100
    ids = np.array([f"id{i}" for i in range(5200)])
    source = Source("made", images, labels.astype(np.int32), ids, 26, 4000, class_names=names)
    assert "in another order (2 differ: 'h' where 'd' stands, 'd' where 'h' stands);" in refused(source)


@pytest.mark.parametrize("num_classes", [2, 4, 10])
@pytest.mark.parametrize("kind", ["at random", "always one", "mostly one"])
def test_a_model_that_guesses_is_refused(num_classes, kind):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = rng.choice(num_classes, 1500, p=np.arange(1, num_classes + 1) / np.arange(num_classes + 1).sum())
        predicted = rng.integers(0, num_classes, 1500)
        if kind != "at random":
            predicted = np.where(rng.random(1500) < (0.0 if kind == "always one" else 0.1), predicted, 0)
        source = made(labels, predicted, rng.normal(100, 30, 1500), 1000, num_classes)
        message = refused(source)
        assert (
            "hardly more than guessing; look at the order of the classes (config.data.class_names), the lab" in message
        )
        assert "config.data.image_size" in message and "config.model.mean" in message
        assert "if its outputs are" not in message
        measure(source, is_first=False)


def test_one_that_knows_a_little_and_remaining_rows_no_better_is_refused():
    source = drawn(np.random.default_rng(1), 10, 2200, 2000, (0.5, 0.5), 0)
    assert "those it was trained on no better than held-out ones (AUC 0." in refused(source)
    [warning] = measure(source, is_first=False).warnings
    assert "cannot be shown to forget" in warning


def test_one_that_generalises_is_warned_about():
    source = drawn(np.random.default_rng(0), 10, 1500, 600, (0.9, 0.9), 0)
    [warning] = measure(source).warnings
    assert "cannot be shown to forget; look at the order of the classes" in warning and "remaining rows" in warning


def test_exchanged_parts_are_refused():
    source = drawn(np.random.default_rng(0), 10, 900, 600, (0.7, 1.0), -60)
    assert "as if the two were exchanged" in refused(source)


def test_outputs_that_are_not_finite_are_refused():
    spec = ModelSpec(SPEC.init, lambda p, s, images, train: (images[:, 0, :, 0] / 0.0, s))
    source = drawn(np.random.default_rng(0), 4, 100, 60, (1.0, 1.0))
    assert "gives outputs that are not finite" in refused(source, spec=spec)


def test_probabilities_are_refused_and_their_logarithms_are_not():
    source = drawn(np.random.default_rng(0), 4, 100, 60, (1.0, 0.7), 40)

    def of(function):
        return ModelSpec(SPEC.init, lambda p, s, images, train: (function(as_drawn(p, s, images, train)[0]), s))

    assert "gives probabilities; allowed: logits" in refused(source, spec=of(jax.nn.softmax))
    measure(source, spec=of(jax.nn.log_softmax))


def known(shares, of_class=None):
    """Rows of 10 classes, of which these shares are known: 100 to forget, 900 that stay and 300 held out."""
    rng = np.random.default_rng(0)
    labels, sizes = np.arange(1300) % 10, (100, 900, 300)
    right = np.concatenate(
        [rng.permutation(size) < round(share * size) for share, size in zip(shares, sizes, strict=True)]
    )
    if of_class is not None:
        labels[:100] = of_class
    predicted = np.where(right, labels, (labels + 1) % 10)
    return made(labels, predicted, np.repeat((140, 140, 90), sizes) + rng.normal(0, 20, 1300), 1000, 10)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.95, 0.95, 0.7), []),
        ((0.89, 0.95, 0.7), []),  # within chance
        ((0.6, 0.95, 0.7), ["the rows to forget are known in 60.0 %, rows that stay in 95.0 %, and their classes do"]),
        ((1.0, 0.95, 0.1), ["held-out rows are known hardly more than by guessing"]),
        ((0.95, 0.95, 1.0), ["held-out rows are known in 100.0 % and rows that stay in only 95.0 %"]),
    ],
    ids=["alike", "nearly", "not trained on", "of another kind", "a selection"],
)
def test_rows_of_another_kind_are_warned_of(shares, words):
    found = measure(known(shares)).warnings
    assert len(found) == len(words) and all(line.startswith(start) for line, start in zip(found, words, strict=True))


def test_a_warning_tells_nothing_of_the_classes_to_forget():
    """The receipt hands it out: its figures are those that the receipt has anyway, whatever the classes are."""
    rare = known((0.6, 0.95, 0.7), of_class=3)
    images = rare.images.copy()
    stays = np.flatnonzero((rare.labels == 3) & (np.arange(1300) >= 100))
    images[stays[::15], 0] = np.roll(images[stays[::15], 0], 1, axis=1)  # of this class fewer that stay are known
    found = measure(dataclasses.replace(rare, images=images))
    [line] = found.warnings
    told = [f"{found.figures[f'{name}_accuracy']:.1f} %" for name in ("forget", "remain")]
    assert re.findall(r"[0-9.]+ %", line) == told


def test_a_row_of_a_class_that_nothing_stays_of_silences_no_warning():
    plain = known((0.6, 0.95, 0.7))
    labels = np.where(plain.labels == 9, 8, plain.labels).astype(np.int32)
    labels[0] = 9
    found = measure(dataclasses.replace(plain, labels=labels)).warnings
    assert any("the rows to forget are known" in line for line in found)


def test_a_hard_class_to_forget_is_compared_with_rows_of_its_own():
    hard = known((0.6, 0.95, 0.7), of_class=3)
    images = hard.images.copy()
    stays = np.flatnonzero((hard.labels == 3) & (np.arange(1300) >= 100))
    images[stays[::2], 0] = np.roll(images[stays[::2], 0], 1, axis=1)  # half of them are not known either
    assert measure(dataclasses.replace(hard, images=images)).warnings == []
    labels = hard.labels.copy()
    labels[stays] = 4  # none to compare with
    [line] = measure(dataclasses.replace(hard, labels=labels)).warnings or [""]
    assert "the rows to forget are known" not in line


class Means(nn.Module):
    """The mean of each colour."""

    @nn.compact
    def __call__(self, images, train):
        return images.mean((1, 2))


HEAD = {"head": {"kernel": 5 * jnp.eye(3), "bias": jnp.zeros(3)}}
MEAN, STD = (0.7, 0.3, 0.4), (0.1, 0.2, 0.15)


def coloured(num_rows=800):
    """Images whose class is the colour that stands out, once normalised by ``MEAN`` and ``STD``."""
    rng = np.random.default_rng(0)
    means = np.array(MEAN) + np.array(STD) * rng.normal(0, 0.5, (num_rows, 3))
    images = np.clip(255 * (means[:, None, None] + rng.normal(0, 0.02, (num_rows, SIDE, SIDE, 3))), 0, 255)
    images = images.astype(np.uint8)
    labels = ((images.mean((1, 2)) / 255 - MEAN) / STD).argmax(1).astype(np.int32)
    ids = np.array([f"id{i}" for i in range(num_rows)])
    return Source("coloured", images, labels, ids, 3, num_rows // 2)


def test_another_normalisation_is_named():
    source = coloured()
    shape = (SIDE, SIDE, 3)
    right = from_module(Classifier(Means(), 3, MEAN, STD), shape)
    measure(source, spec=right, params=HEAD)
    wrong = from_module(Classifier(Means(), 3, (0.5,) * 3, (0.5,) * 3), shape)
    message = refused(source, spec=wrong, params=HEAD)
    assert "with another normalisation, measured on these images (config.model.mean=(0." in message
    told = [float(x) for x in message.split("config.model.mean=(")[1].split(")")[0].split(",")]
    np.testing.assert_allclose(told, MEAN, atol=0.03)
    assert "with another normalisation" in refused(source, spec=wrong, params=HEAD, is_first=False)


def test_a_function_whose_images_are_to_be_normalised_first_is_told_so():
    source = coloured()
    centred = ModelSpec(SPEC.init, lambda p, s, images, train: (-jnp.abs(images.mean((1, 2))), s))
    images = np.asarray(source.images, np.float64).mean((1, 2)) / 255
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    labels = (-np.abs((images - mean) / std)).argmax(1).astype(np.int32)
    source.labels[:] = labels
    message = refused(source, spec=centred)
    assert "ImageNet's (before it is asked, mean=(0.485,0.456,0.406), before it is asked, std=" in message


def test_colours_the_other_way_round_are_named():
    source = coloured()
    spec = from_module(Classifier(Means(), 3, MEAN, STD), (SIDE, SIDE, 3))
    bgr = Source("bgr", np.ascontiguousarray(source.images[..., ::-1]), source.labels, source.ids, 3, source.num_train)
    assert "of them with red and blue exchanged" in refused(bgr, spec=spec, params=HEAD)


class Stripes(nn.Module):
    """How strong stripes of 4, 6 and 8 pixels are: what a convolution sees of an image changes with its size."""

    @nn.compact
    def __call__(self, images, train):
        places = 2 * jnp.pi * jnp.arange(images.shape[2])[:, None] / jnp.array([[4.0, 6.0, 8.0]])
        rows = images.mean((1, 3))
        waves = (rows @ jnp.cos(places), rows @ jnp.sin(places))
        return jnp.hypot(*waves) / images.shape[2]


@pytest.mark.parametrize("size", [48, 64])
def test_another_size_of_the_images_is_named(size):
    from PIL import Image

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600).astype(np.int32)
    phase = rng.uniform(0, 6.28, (600, 1))
    rows = 128 + 60 * np.sin(2 * np.pi * np.arange(32) / np.array([4, 6, 8])[labels][:, None] + phase)
    images = np.repeat(np.repeat(rows[:, None, :, None], 32, 1), 3, 3)
    images = np.clip(images + rng.normal(0, 10, images.shape), 0, 255).astype(np.uint8)
    ids = np.array([f"id{i}" for i in range(600)])
    head = {"head": {"kernel": 50 * jnp.eye(3), "bias": jnp.zeros(3)}}
    right = Source("stripes", images, labels, ids, 3, 300)
    measure(right, spec=from_module(Classifier(Stripes(), 3), (32, 32, 3)), params=head)
    large = np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])
    wrong = Source("stripes", large, labels, ids, 3, 300)
    message = refused(wrong, spec=from_module(Classifier(Stripes(), 3), (size, size, 3)), params=head)
    assert f"at 32x32 pixels (config.data.image_size; they are {size}x{size})" in message


def test_only_some_rows_are_asked_about(monkeypatch):
    monkeypatch.setattr("ltu_jax.deletion.given_model.MOST_MEASURED", 50)
    source = drawn(np.random.default_rng(0), 4, 400, 300, (1.0, 0.7), 60)
    assert measure(source).figures["rows"] == {"remain": 50, "forget": 40, "held_out": 50}
