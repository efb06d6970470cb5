"""Every method by its name, a user's own among them: built from its settings, run by one loop, its cost counted."""

import dataclasses
import subprocess
import sys
import time

import by_hand
import chex
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from compiling import programs_made

from ltu_jax.attackers.bank import init_bank
from ltu_jax.config import LTU, METHOD_CONFIGS, Training
from ltu_jax.data.batches import gather
from ltu_jax.methods import METHODS, build_method
from ltu_jax.methods.base import Method, one_shot
from ltu_jax.setting import ConfigError
from ltu_jax.training.dispatch import compile_steps
from ltu_jax.training.optimizers import SGD
from ltu_jax.training.saving import Saving
from ltu_jax.types import Parts, Rows, Splits, StoredImages, Visible, make_state
from ltu_jax.unlearning.loop import RunOptions, Start, run_together, run_unlearning

SPEC = mlp.build(None, 4, (4, 4, 3))


def shrink(settings, parts):
    """A one-shot method: does its work in init and runs zero steps."""

    def init(key, state, visible):
        return state.replace(params=jax.tree.map(lambda p: 0.5 * p, state.params)), ()

    return Method(init, lambda *a: (), lambda s, c, d: (s, {}), lambda visible: 0)


def test_a_one_shot_method_of_ones_own_runs_in_the_loop():
    method = build_method(LTU(name="test_base:shrink"), Parts(SPEC.apply_fn, 4))
    source, empty = mlp.toy_source(), np.arange(0)
    splits = Splits(np.arange(10), np.arange(10, 50), np.arange(60, 90), np.arange(120, 160), empty, empty)
    original = make_state(SPEC.apply_fn, *SPEC.init(jax.random.key(0)), SGD, jax.random.key(0))
    state, history = run_unlearning(method, original, splits, source)
    np.testing.assert_array_equal(state.params["w1"], 0.5 * jnp.asarray(original.params["w1"]))
    assert history.rows == [] and history.init_s > 0 and int(state.step) == 0


def test_what_is_no_function_or_no_method_is_told_in_one_line():
    never = lambda *a: None  # noqa: E731
    message = r"^Method.num_steps: 2 is no function; allowed: one, such as lambda visible: 10$"
    with pytest.raises(ConfigError, match=message):
        Method(never, never, never, 2)
    with pytest.raises(ConfigError, match="^config.method.name: 'test_base:no_method' gives NoneType; allowed: a func"):
        build_method(LTU(name="test_base:no_method"), Parts(SPEC.apply_fn, 4))


def no_method(settings, parts):
    return None


def test_ut_has_what_init_runs_and_not_what_it_compiles():
    def wait(x):
        time.sleep(0.2)
        return x

    def half(x):
        time.sleep(1.5)  # while it is traced
        return jax.pure_callback(wait, x, x) / 2

    def init(key, state, visible):
        return state.replace(params=jax.jit(lambda params: jax.tree.map(half, params))(state.params)), ()

    original = make_state(SPEC.apply_fn, {"w": jnp.ones(3)}, {}, SGD, jax.random.key(0))
    source, empty = mlp.toy_source(), np.arange(0)
    splits = Splits(np.arange(10), np.arange(10, 50), *[empty] * 4)
    _, history = run_unlearning(one_shot(init), original, splits, source)
    assert history.init_s >= 0.2 and history.compile_s >= 1.5
    assert history.ut_minutes * 60 == history.init_s < 1.5


def test_what_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match="config.method.name: 'test_base:nothing' cannot be imported"):
        build_method(LTU(name="test_base:nothing"), Parts(SPEC.apply_fn, 4))


def built(name, build=build_method, arrays=2, rate=0.01):
    """The method of a configuration, small; two epochs, that the counts are whole. ``arrays`` makes the attackers."""
    settings = METHOD_CONFIGS[name]()
    small = {"batch_size": 12, "epochs": 2.0, "learning_rate": rate, "target_accuracy": 5.0}
    settings = dataclasses.replace(settings, **{n: v for n, v in small.items() if hasattr(settings, n)})
    recipe = Training(epochs=2, batch_size=12)
    updates = jax.tree.map(lambda x: x * arrays / 2, by_hand.original().params)
    bank = init_bank(jax.random.key(arrays), ("sorted", "metrics"), by_hand.C)
    return build(settings, by_hand.parts(bank=bank, training=recipe, updates=updates))


def original(name):
    """The model that a method starts from: one with a convolution, where it changes those."""
    return by_hand.convolved() if name in ("ct", "msg", "negate_first") else by_hand.original()


def images_of(draw):
    """All images of a draw."""
    return [x.reshape(-1, *x.shape[-3:]) for x in jax.tree.leaves(draw) if x.ndim > 3]


def kinds_of(images, name):
    """Of which set each image is; AMUN's copies, which nobody has seen, are the forget set's."""
    stored = {row: kind for kind, rows in by_hand.VISIBLE._asdict().items() for row in bytes_of(rows)}
    return [stored.get(image.tobytes(), "forget" if name == "amun" else "none") for image in np.asarray(images)]


def bytes_of(rows):
    """Each image as the methods see it."""
    return [image.tobytes() for image in np.asarray(gather(rows, jnp.arange(len(rows.labels))).images)]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_every_configuration_builds_and_its_cost_counts_the_images_that_it_draws(name):
    method, visible = built(name), by_hand.VISIBLE
    num_steps, cost = method.num_steps(visible), method.cost(visible)
    _, context = by_hand.started(method, start=original(name))
    drawn = [by_hand.draw_at(method, context, step) for step in range(num_steps)]
    if name == "ltu":  # the same forget rows a second time, unaugmented
        drawn = [draw._replace(compared=draw.compared._replace(forget=None)) for draw in drawn]
    kinds = [kind for draw in drawn for images in images_of(draw) for kind in kinds_of(images, name)]
    assert ("held_out" in kinds) == method.sees_held_out == (name == "ltu")
    spent = cost.of(num_steps)
    assert spent == cost.init.plus(cost.step, num_steps)
    counted = kinds.count("forget") + cost.init.forget, kinds.count("remain") + cost.init.remain
    np.testing.assert_allclose((spent.forget, spent.remain), counted)
    assert (num_steps == 0) == (cost.step.forward == 0)


def test_every_method_has_a_configuration():
    assert {METHOD_CONFIGS[name]().name for name in METHOD_CONFIGS} == set(METHODS)


STRUCTURES = [*METHODS, "paper"]
"""Every method; LTU by margins, and by attackers."""
SHARED = ("ltu", "paper", "finetune", "fisher", "ssd")
"""Those that keep arrays, a rate, and what init compiles apart from the steps; the others are slow tests."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SHARED else pytest.mark.slow) for n in STRUCTURES])
def test_equal_settings_share_their_steps_and_other_arrays_and_rates_count_all_the_same(name):
    """Compiled once in a process; steps that kept what the first was built from would ask the first one's attackers."""
    method, other_arrays, other_rate = built(name, arrays=3, rate=0.03), built(name, rate=0.03), built(name, arrays=3)
    ends, programs = [], []
    for one in (method, other_arrays, other_rate):
        with programs_made() as made:
            state, context = one.init(jax.random.key(1), original(name), by_hand.VISIBLE)
            if num_steps := min(3, one.num_steps(by_hand.VISIBLE)):
                steps = compile_steps(one, state, context, by_hand.VISIBLE, num_steps)
                state, _ = steps(state, context, by_hand.VISIBLE)
        ends.append(jax.tree.map(np.asarray, (state.params, state.model_state)))
        programs.append(len(made))
    assert programs[1:] == [0, 0]
    if name in ("paper", "amnesiac"):
        assert not np.array_equal(ends[0][0]["w1"], ends[1][0]["w1"])
    if hasattr(METHOD_CONFIGS[name](), "learning_rate"):
        assert not np.array_equal(ends[0][0]["w1"], ends[2][0]["w1"])


def numbers_of(settings):
    """The fields that a trial may turn."""
    return [field.name for field in dataclasses.fields(settings) if field.type is float]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in SHARED else pytest.mark.slow) for n in STRUCTURES])
def test_another_trial_of_any_number_compiles_nothing(name):
    """Rates, weights, momentum, epochs, temperatures: after the first run of a method no other makes a program."""
    settings = dataclasses.replace(METHOD_CONFIGS[name](), **{"epochs": 2.0} if name in EPOCHS else {})
    changes = [{}, {}, *({number: 0.6 * getattr(settings, number)} for number in numbers_of(settings))]
    source, empty = mlp.toy_source(num_classes=by_hand.C), np.arange(0)
    splits = Splits(np.arange(24), np.arange(24, 84), empty, empty, np.arange(84, 120), empty)
    bank = init_bank(jax.random.key(0), ("sorted", "metrics"), by_hand.C)
    updates = jax.tree.map(jnp.zeros_like, by_hand.original().params)
    parts = by_hand.parts(bank=bank, training=Training(epochs=2, batch_size=12), updates=updates)
    made = {}
    for change in changes:
        small = {"batch_size": 12} if hasattr(settings, "batch_size") else {}
        method = build_method(dataclasses.replace(settings, **small, **change), parts)
        with programs_made() as programs:
            run_unlearning(method, original(name), splits, source, remain_fraction=0.5)
        made[",".join(change) or f"run {len(made)}"] = len(programs)
    made.pop("run 0")
    assert set(made.values()) == {0}, made


EPOCHS = {name for name in STRUCTURES if hasattr(METHOD_CONFIGS[name](), "epochs")}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_method_takes_the_same_steps_when_its_images_stay_on_the_host(name):
    method, images = built(name), np.concatenate([rows.images for rows in by_hand.VISIBLE])
    places = np.split(np.arange(len(images)), np.cumsum([len(rows.labels) for rows in by_hand.VISIBLE])[:-1])
    on_host = Visible(*(Rows(StoredImages(images, p), r.labels) for p, r in zip(places, by_hand.VISIBLE, strict=True)))
    num_steps, ends = min(5, method.num_steps(by_hand.VISIBLE)), []
    for visible in (by_hand.VISIBLE, on_host):
        state, context = method.init(jax.random.key(1), original(name), visible)
        if num_steps:
            steps = compile_steps(method, state, context, visible, num_steps)
            state, _ = steps(state, context, visible)
        ends.append(jax.tree.map(np.asarray, (state.params, state.model_state)))
    chex.assert_trees_all_equal(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_method_goes_on_where_it_stopped_and_takes_its_steps_beside_another_seed(name, tmp_path):
    method, source, empty = built(name), mlp.toy_source(num_classes=by_hand.C), np.arange(0)
    num_steps, starts = min(5, method.num_steps(by_hand.VISIBLE)), []
    for seed in (0, 10):
        held_out = np.arange(seed + 84, seed + 110)
        splits = Splits(np.arange(seed, seed + 24), np.arange(seed + 24, seed + 84), empty, empty, held_out, empty)
        starts.append(Start(method, original(name).replace(rng=jax.random.key(seed)), splits, source))
    alone = [run_unlearning(*start[:4], num_steps=num_steps)[0] for start in starts]
    for stop in (min(3, num_steps), num_steps):
        cut, _ = run_unlearning(*starts[0][:4], num_steps=stop, saving=Saving(tmp_path, "a", 2))
    chex.assert_trees_all_equal((cut.params, cut.model_state), (alone[0].params, alone[0].model_state))
    for (together, _), wanted in zip(run_together(starts, RunOptions(num_steps)), alone, strict=True):
        chex.assert_trees_all_close(together.params, wanted.params, rtol=1e-4, atol=1e-5)


def test_the_recipe_among_the_parts_is_numbers_whatever_else_was_imported():
    lines = [
        "import jax; from ltu_jax.methods import build_method",
        "from ltu_jax.config import Training, method_config; from ltu_jax.types import Parts",
        "method = build_method(method_config('finetune'), Parts(len, 2, training=Training()))",
        "assert all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(method)), jax.tree.leaves(method)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
