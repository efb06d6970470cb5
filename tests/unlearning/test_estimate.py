"""--dry_run, and every configuration file of the experiments: each builds its step under jax.eval_shape."""

import dataclasses
import importlib.util
import itertools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from small import BY_ATTACKERS, small_config

from ltu_jax import config
from ltu_jax.data.splits import make_splits
from ltu_jax.methods import build_method
from ltu_jax.methods.base import Method
from ltu_jax.models.build import ModelSpec, build_model
from ltu_jax.training.cost import ImageFlops
from ltu_jax.types import Parts, Source
from ltu_jax.unlearning import estimate as module
from ltu_jax.unlearning.estimate import estimate
from ltu_jax.unlearning.problem import Loaded, load_problem

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "experiments" / "configs").glob("*.py"))
SHAPES = {  # training rows, test rows, side, classes
    "digits": (1797, 0, 8, 10),
    "cifar10": (50000, 10000, 32, 10),
    "cifar10_jpeg": (50000, 10000, 32, 10),
    "cifar100": (50000, 10000, 32, 100),
    "tiny_imagenet": (100000, 10000, 64, 200),
    "tiny_imagenet32": (100000, 10000, 32, 200),
}


def blank(data):
    """A source of the right shape that takes no memory: one image, seen many times."""
    train, test, side, classes = SHAPES[data.name]
    classes = len(data.classes) or classes
    rows = train + test
    images = np.broadcast_to(np.zeros((1, side, side, 3), np.uint8), (rows, side, side, 3))
    labels = (np.arange(rows) % classes).astype(np.int32)
    return Source(data.name, images, labels, np.arange(rows).astype(str), classes, train)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


DIGITS = next(path for path in CONFIGS if path.stem == "digits")
CASES = [(path, "ltu") for path in CONFIGS] + [(DIGITS, name) for name in sorted(config.METHOD_CONFIGS)]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), CASES, ids=lambda x: getattr(x, "stem", x))
def test_every_configuration_and_every_method_builds_its_step_without_running_it(path, method, monkeypatch):
    # Lowering is what takes long; the flops are another test's.
    monkeypatch.setattr(module, "image_flops", lambda *args: ImageFlops(2.0, 3.0))
    settings = config.resolve(load(path).get_config(method))
    source = blank(settings.data)
    found = estimate(settings, loaded(source, settings))
    one_shot = method in ("amnesiac", "fisher", "fisher_salun_compat", "ssd")
    assert (found["steps"]["unlearning"] == 0) == one_shot
    assert found["flops"]["unlearning"] > 0 or method == "amnesiac"  # which passes nothing through the model
    assert found["shapes"]["logits"][1] == source.num_classes
    assert load(path).__doc__ and "python -m ltu_jax.unlearn" in load(path).__doc__


def loaded(source, settings):
    spec = build_model(settings.model, source.num_classes, source.images.shape[1:])
    return Loaded(source, make_splits(source, settings.data, 0), spec)


def test_steps_and_rows_follow_from_the_settings():
    settings = config.resolve(
        config.Config(
            data=config.Data(train_size=200, forget_fraction=0.1, remain_fraction=0.5),
            model=config.Model("mlp:build"),
            training=config.Training(epochs=3, batch_size=20),
            attackers=config.Attackers(num_shadows=4),
            method=config.LTU(**BY_ATTACKERS, epochs=6, batch_size=8, query_size=50),
            evaluation=config.Evaluation(num_retrain=2),
        )
    )
    source = blank(settings.data)
    found = estimate(settings, loaded(source, settings))
    assert found["rows"] == {
        "forget": 20, "remain": 180, "validation": 144, "test": 359, "reserve": 400, "visible_remain": 90,
    }  # fmt: skip
    assert found["steps"] == {"original": 30, "retrain": 2 * 27, "shadows": 4 * 30, "unlearning": 15}
    data = dataclasses.replace(settings.data, held_out="train")
    given = dataclasses.replace(settings, weights="model.pth", data=data)
    assert estimate(given, loaded(source, given))["steps"] == found["steps"] | {"original": 0}
    assert found["parameters"] == 8 * 8 * 3 * 16 + 16 * 10
    assert found["shapes"]["draw"][".queries.images"] == [3, 50, 8, 8, 3]


def finetuning(streamed=False, **changes):
    """What fine-tuning of 100 rows would cost: 10 to forget, 45 of 90 visible; and the rows' source."""
    fields = {
        "data": config.Data(train_size=100, forget_fraction=0.1, remain_fraction=0.5, reserve_size=80),
        "model": config.Model("mlp:build"),
        "training": config.Training(epochs=3, batch_size=20),
        "attackers": config.Attackers(num_shadows=4),
        "method": dataclasses.replace(config.METHOD_CONFIGS["finetune"](), epochs=2, batch_size=15),
        "evaluation": config.Evaluation(num_retrain=2),
    }
    settings = config.resolve(config.Config(**{**fields, **changes}))
    source = dataclasses.replace(blank(settings.data), streamed=streamed)
    return settings, loaded(source, settings)


def test_flops_are_those_of_an_image_times_the_images(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "image_flops", lambda *args: asked.append(args) or ImageFlops(2.0, 3.0))
    settings, problem = finetuning()
    found = estimate(settings, problem)
    # An image costs 5 there and back. Batches of 20, 20 and 15 of the 45 rows that fine-tuning sees, two epochs.
    steps = {"original": 15, "retrain": 2 * 14, "shadows": 0, "unlearning": 6}
    assert found["steps"] == steps
    assert found["flops"] == {
        "original": 15 * 20 * 5, "retrain": 28 * 20 * 5, "shadows": 0, "unlearning": 6 * 15 * 5, "train_step": 20 * 5,
    }  # fmt: skip
    ((_, params, model_state, *rest),) = asked
    assert {name: x.shape for name, x in params.items()} == {"w1": (192, 16), "w2": (16, 10)}
    assert model_state == {} and rest == [(8, 8, 3), 20]
    # A batch is never larger than the training set.
    settings, problem = finetuning(training=config.Training(epochs=3, batch_size=500))
    assert estimate(settings, problem)["flops"]["train_step"] == 100 * 5 and asked[1][4] == 100


def own_method():
    """Fine-tuning, of which nobody says what it costs."""
    settings, problem = finetuning()
    parts = Parts(problem.spec.apply_fn, 10, training=settings.training)
    made = build_method(settings.method, parts)
    return Method(init=made.init, sample=made.sample, step=made.step, num_steps=made.num_steps)


def test_flops_of_a_method_that_does_not_state_its_cost_are_unknown(monkeypatch):
    monkeypatch.setattr(module, "build_method", lambda *args: own_method())
    found = estimate(*finetuning())
    assert found["steps"]["unlearning"] == 6 and found["flops"]["unlearning"] is None
    assert found["flops"]["original"] > 0


def test_a_model_with_batch_statistics_is_counted():
    """ResNet-8 of width 4: its statistics are needed to trace it."""
    found = estimate(*finetuning(model=config.Model("resnet8", width=4)))
    assert found["shapes"]["logits"] == [20, 10] and found["flops"]["train_step"] > 0


def test_the_method_is_built_of_what_a_run_would_build_it_of(monkeypatch):
    built, build = [], module.build_method
    monkeypatch.setattr(module, "build_method", lambda *args: built.append(args) or build(*args))
    settings, problem = finetuning(method=config.LTU(**BY_ATTACKERS))
    estimate(settings, problem)
    ((method, parts),) = built
    spec = problem.spec
    assert method is settings.method and parts.num_classes == 10 and parts.training is settings.training
    assert (parts.apply_fn, parts.init_params, parts.features) == (spec.apply_fn, spec.init, spec.features)
    assert parts.augment == settings.data.augment and parts.bank.names == settings.attackers.names


def test_shadows_are_counted_where_attackers_are_fitted_on_them_and_all_rows_where_retraining_sees_them():
    counts = lambda **changes: estimate(*finetuning(**changes))  # noqa: E731
    by_attackers = config.LTU(**BY_ATTACKERS)
    assert counts(method=by_attackers)["steps"]["shadows"] == 4 * 6  # 40 rows each
    original = config.Attackers(num_shadows=4, fitted_on="original")
    assert counts(method=by_attackers, attackers=original)["steps"]["shadows"] == 0
    assert counts(method=config.LTU(forget_by="margins"))["steps"]["shadows"] == 0
    assert counts()["rows"]["visible_remain"] == 45
    assert counts(method=config.Retrain())["rows"]["visible_remain"] == 90
    assert counts(method=config.METHOD_CONFIGS["fisher"]())["shapes"]["draw"] == {}  # it takes no step


def test_what_the_device_holds_is_counted_in_bytes():
    found = estimate(*finetuning())
    assert found["shapes"]["images"][1:] == [8, 8, 3] and found["shapes"]["logits"] == [20, 10]
    assert found["shapes"]["draw"] == {".images": [15, 8, 8, 3], ".labels": [15]}
    held, params = found["held_bytes"], 4 * (192 * 16 + 16 * 10)
    assert held["visible"] == (10 + 45) * (192 + 4)
    assert held["draw"] == 15 * (192 * 4 + 4)
    assert 2 * params < held["state"] < 2 * params + 100  # momentum, and a few numbers
    assert held["context"] == 4 * 4  # the schedule's peak, steps, warm-up and epochs; keys are left out
    assert estimate(*finetuning(streamed=True))["held_bytes"] == held | {"visible": (10 + 45) * 4}


@pytest.mark.parametrize("reserve, seen", [(80, 80), (1100, 1000)])
def test_held_out_rows_are_on_the_device_where_the_method_is_shown_them(reserve, seen):
    data = config.Data(train_size=100, forget_fraction=0.1, remain_fraction=0.5, reserve_size=reserve)
    for forget_by, rows in (("margins", 10 + 45 + seen), ("attackers", 10 + 45)):
        method = config.LTU(forget_by=forget_by)
        assert estimate(*finetuning(data=data, method=method))["held_bytes"]["visible"] == rows * (192 + 4)
        held = estimate(*finetuning(data=data, method=method, streamed=True))["held_bytes"]
        assert held["visible"] == rows * 4


@pytest.mark.parametrize("optimizer, kept", [("sgd", 1), ("adam", 2), ("adamw", 2)])
@pytest.mark.parametrize("eval_every, states", [(0, 3), (3, 6)])
def test_a_run_writes_two_checkpoints_and_the_next_its_report_and_a_model_for_each_training(
    eval_every, states, optimizer, kept
):
    settings, _ = finetuning(eval_every=eval_every, method=config.LTU(optimizer=optimizer))
    init = lambda key: ({"w": jnp.zeros((3, 2))}, {"batch_stats": {"mean": jnp.zeros(5)}})  # noqa: E731
    # Parameters and statistics; beside them momentum, or Adam's two moments, and a few numbers.
    model, trained, unlearned = 4 * (6 + 5), 4 * (6 + 6 + 5), 4 * (6 + kept * 6 + 5)
    found, numbers = module.disk_bytes(settings, ModelSpec(init, None, None)), 30
    assert 0 <= found["workdir"] - (states * unlearned + 2 * model) < states * numbers
    assert 0 <= found["cache"] - ((1 + 2 + 4) * model + 3 * trained) < 3 * numbers
    retrain = dataclasses.replace(settings, method=config.Retrain())  # it has no such setting
    assert module.disk_bytes(retrain, ModelSpec(init, None, None))["workdir"] < states * (trained + numbers) + 2 * model


def test_seconds_of_a_request_are_what_its_passes_take_and_those_of_other_methods_beside_it(monkeypatch):
    """The clock says a second for the forward pass of all 80 training rows, and a backward pass is one pass more."""
    monkeypatch.setattr(module, "image_flops", lambda *args: ImageFlops(1.0, 1.0))
    settings = small_config(method=config.LTU(), calibration=config.Calibration(trials=3, evaluations=2))
    loaded = load_problem(settings)
    ticks = itertools.count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    found = module.request_seconds(settings, loaded, num_unseen=7)
    assert next(iter(found)) == "ltu" and {"random_label", "salun", "scrub", "bad_teacher"} < set(found)
    assert not {"retrain", "amnesiac", "ssd"} & set(found)
    assert list(found.values())[1:] == sorted(list(found.values())[1:])
    forget, seen, remain = 16, 19, 64
    held_out, test = len(loaded.splits.validation), len(loaded.splits.test)
    assert (len(loaded.splits.forget), len(loaded.splits.visible), len(loaded.splits.remain)) == (forget, seen, remain)
    looks, evidence = 3 * 2 * (forget + seen + 7 + held_out), 2 * (forget + test + remain)
    # FT, 10 epochs of the rows that are seen, a batch of all of them: each once forward and once backward.
    assert found["finetune"] == pytest.approx((3 * 10 * seen * 2 + looks + evidence) / 80, abs=0.06)
