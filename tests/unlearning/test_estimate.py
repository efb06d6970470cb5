"""--dry_run, and every configuration file of the experiments: each builds its step under jax.eval_shape."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
import pytest

from ltu_jax import config
from ltu_jax.data.splits import make_splits
from ltu_jax.models.build import build_model
from ltu_jax.training.cost import ImageFlops
from ltu_jax.types import Source
from ltu_jax.unlearning import estimate as module
from ltu_jax.unlearning.estimate import estimate
from ltu_jax.unlearning.problem import Loaded

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "experiments" / "configs").glob("*.py"))
SHAPES = {  # training rows, test rows, side, classes
    "digits": (1797, 0, 8, 10),
    "cifar10": (50000, 10000, 32, 10),
    "cifar10_jpeg": (50000, 10000, 32, 10),
    "cifar100": (50000, 10000, 32, 100),
    "tiny_imagenet": (100000, 10000, 64, 200),
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
            method=config.LTU(epochs=6, batch_size=8),
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
