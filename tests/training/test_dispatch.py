"""Compiled steps: as many programs as shapes, and the same numbers however many go to the device at a time."""

import functools
import gc
import itertools
import time
import types
import weakref
from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.data.batches import gather
from ltu_jax.devices import device_mesh
from ltu_jax.setting import ConfigError
from ltu_jax.training import dispatch
from ltu_jax.training.dispatch import (
    CompileClock,
    compile_clock,
    compile_steps,
    compiled,
    steps_per_call,
    timed_steps,
)
from ltu_jax.types import Rows, StoredImages, make_state, static

pytestmark = pytest.mark.smoke

TX = optax.sgd(0.1, momentum=0.9)  # one object: it is a static part of the state


@flax.struct.dataclass
class Toy:
    """An algorithm made of two functions."""

    sample: Callable = static()
    step: Callable = static()


def sample(key, step, context, data):
    index = jax.random.randint(key, (2,), 0, len(data))
    return data[index] * context["scale"], step


def step(state, context, draw):
    rows, number = draw
    residual = state.params["w"] * rows.mean() - context["target"]
    state = state.apply_gradients(grads={"w": rows.mean() * residual}, model_state={"seen": number})
    return state, {"loss": jnp.sum(residual**2), "number": number.astype(jnp.float32)}


def problem(num_rows=6):
    params, model_state = {"w": jnp.array([1.0, -2.0, 0.5])}, {"seen": jnp.int32(-1)}
    state = make_state(step, params, model_state, TX, jax.random.key(4))
    context = {"scale": jnp.float32(0.7), "target": jnp.array([0.3, 0.1, -0.2])}
    return state, context, jnp.linspace(-1, 1, num_rows)


def numbers(state):
    """Everything in a state that can be compared."""
    return jax.tree.map(np.array, (state.step, state.params, state.opt_state, state.model_state))


@pytest.fixture(params=["called", "scanned"])
def backend(request, monkeypatch):
    """A CPU calls one step after another; anything else scans."""
    if request.param == "scanned":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return request.param


def test_equal_shapes_of_the_same_function_compile_once():
    traces = []

    def fn(tree, x):
        traces.append(x.shape)
        return tree["a"] + 2 * x

    for value in (1.0, 5.0):
        args = {"a": jnp.full(3, value)}, np.arange(3, dtype=np.float32)
        np.testing.assert_allclose(compiled(fn, *args)(*args), value + 2 * np.arange(3), rtol=1e-6)
    assert compiled(fn, *args) is compiled(fn, *jax.eval_shape(lambda: args))
    assert traces == [(3,)]
    compiled(fn, {"a": jnp.ones(4)}, jnp.ones(4))
    compiled(fn, {"a": jnp.ones(4, jnp.int32)}, jnp.ones(4, jnp.int32))
    assert traces == [(3,), (4,), (4,)]


def test_a_program_that_is_let_go_of_leaves_nothing_behind(monkeypatch):
    """JAX's own caches kept every program of a function, some 700 maps of memory each, as long as the function."""

    class Model:
        """Known by its identity, as a function of the user's."""

    def fn(model, x):
        return x * (1 if model is None else 2)

    monkeypatch.setattr(dispatch, "_compile", functools.lru_cache(maxsize=1)(dispatch._compile.__wrapped__))
    model, x = Model(), jnp.arange(3.0)
    held = weakref.ref(model)
    np.testing.assert_array_equal(compiled(fn, x, static=(model,))(x), [0, 2, 4])
    del model
    np.testing.assert_array_equal(compiled(fn, x, static=(None,))(x), [0, 1, 2])
    gc.collect()
    assert held() is None


def test_under_a_trace_it_is_the_function_itself():
    def double(times, x):
        return times * x

    shape = jax.eval_shape(lambda x: compiled(double, x, static=(2,))(x), jnp.ones(3))
    assert shape.shape == (3,)


def test_a_program_belongs_to_the_mesh_that_it_was_compiled_under():
    def double(x):
        return 2 * x

    x = jnp.ones(3)
    alone = compiled(double, x)
    with jax.set_mesh(device_mesh()):
        assert compiled(double, x) is not alone
    assert compiled(double, x) is alone


def test_where_nans_are_looked_for_the_function_is_left_to_jax():
    def root(scale, x, y):
        return scale * jnp.sqrt(x) + y

    args = jnp.array([4.0, 9.0]), jnp.ones(2)
    wanted = compiled(root, *args, static=(2.0,))(*args)
    with jax.debug_nans(True):
        found = compiled(root, *args, static=(2.0,))
        np.testing.assert_array_equal(found(*args), wanted)
        with pytest.raises(FloatingPointError, match="sqrt"):  # the operation, which a compiled program cannot name
            found(-args[0], args[1])
    np.testing.assert_array_equal(wanted, [5, 7])


def test_only_what_is_donated_is_consumed():
    first, second = jnp.ones(5), jnp.ones(5)
    compiled(lambda x, y: x + y, first, second, donate=(1,))(first, second)
    assert second.is_deleted() and not first.is_deleted()


def test_steps_equal_a_plain_loop_that_draws_from_fold_in_of_the_step(backend):
    state, context, data = problem()
    losses = []
    for t in range(5):
        draw = sample(jax.random.fold_in(state.rng, t), state.step, context, data)
        state, metrics = step(state, context, draw)
        losses.append(metrics["loss"])
    start, *args = problem()
    many, metrics = compile_steps(Toy(sample, step), start, *args, 5)(start, *args)
    chex.assert_trees_all_close(numbers(many), numbers(state), rtol=1e-5, atol=1e-6)
    chex.assert_shape(list(metrics.values()), (5,))
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(metrics["number"], np.arange(5))


def test_steps_are_counted_whatever_the_algorithm_says(backend):
    def uncounted(state, context, draw):
        after, metrics = step(state, context, draw)
        return after.replace(step=state.step), metrics

    args, [counted, _] = problem(), problem()[:2]
    state, metrics = compile_steps(Toy(sample, uncounted), *args, 5)(*args)
    counted, _ = compile_steps(Toy(sample, step), counted, *args[1:], 5)(counted, *args[1:])
    np.testing.assert_array_equal(metrics["number"], np.arange(5))
    chex.assert_trees_all_equal(numbers(state), numbers(counted))


@pytest.mark.parametrize(
    "returned, message",
    [
        (lambda state: state, r"step: it returned UnlearnState; allowed: \(state, metrics\)"),
        (lambda state: (state.params, {}), r"step: it returned dict, dict; allowed: \(state, metrics\)"),
        (lambda state: (state, None), "step: its metrics are no dictionary of single numbers; allowed: "),
        (lambda state: (state, {"loss": jnp.ones(3)}), "step: its metrics are no dictionary of single numbers"),
    ],
)
def test_a_step_that_returns_something_else_is_told_in_one_line(returned, message, backend):
    args = problem()
    with pytest.raises(ConfigError, match=f"^{message}"):
        compile_steps(Toy(sample, lambda state, context, draw: returned(state)), *args, 2)(*args)


def test_the_scanned_form_equals_the_called_form(monkeypatch):
    results = []
    for name in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda name=name: name)
        args = problem()
        state, metrics = compile_steps(Toy(sample, step), *args, 7)(*args)
        results.append((numbers(state), metrics))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_two_calls_go_on_where_one_would_have_been(backend):
    whole, context, data = problem()
    parts = problem()[0]
    whole, metrics = compile_steps(Toy(sample, step), whole, context, data, 6)(whole, context, data)
    run = compile_steps(Toy(sample, step), parts, context, data, 3)
    parts, first = run(parts, context, data)
    parts, second = run(parts, context, data)
    chex.assert_trees_all_close(numbers(parts), numbers(whole), rtol=1e-6)
    joined = jax.tree.map(lambda *x: np.concatenate(x), first, second)
    chex.assert_trees_all_close(joined, jax.tree.map(np.asarray, metrics), rtol=1e-6)


def test_a_call_consumes_its_state_and_nothing_else(backend):
    state, context, data = problem()
    compile_steps(Toy(sample, step), state, context, data, 2)(state, context, data)
    assert state.params["w"].is_deleted()
    assert not any(x.is_deleted() for x in [*jax.tree.leaves(context), data])


def test_the_step_compiles_once_for_any_number_of_rows_and_steps():
    counted = chex.assert_max_traces(step, n=1)
    for num_rows, num_steps in ((6, 2), (9, 2), (6, 3), (6, 2)):
        args = problem(num_rows)
        compile_steps(Toy(sample, counted), *args, num_steps)(*args)


def test_the_same_steps_are_compiled_once(backend):
    traces = []

    def counted(*args):
        traces.append(1)
        return sample(*args)

    compile_steps(Toy(counted, step), *problem(), 4)
    once = len(traces)  # its shapes are asked for too
    compile_steps(Toy(counted, step), *problem(), 4)
    assert len(traces) == once


def test_the_compile_clock_counts_overlapping_spans_once():
    clock = CompileClock()
    for start, end in [(0.25, 0.75), (5.0, 6.0), (1.0, 4.0), (2.0, 3.0), (3.5, 4.5), (5.25, 5.5)]:
        clock("/jax/core/compile/any", start, end, fun_name="f")
    clock("/jax/something/else", 0.0, 100.0)
    assert clock.seconds == 0.5 + 3.5 + 1.0


def test_the_compile_clock_counts_tracing_and_not_running():
    def wait(x):
        time.sleep(0.2)
        return x

    @jax.jit
    def fn(x):
        time.sleep(0.3)  # while it is traced
        return jax.pure_callback(wait, x, x)

    start = time.perf_counter()
    with compile_clock() as clock:
        jax.block_until_ready(fn(jnp.ones(())))
    assert clock.seconds >= 0.3 and time.perf_counter() - start - clock.seconds >= 0.2
    before = clock.seconds
    jax.jit(lambda x: 2 * x)(jnp.ones(()))
    assert clock.seconds == before, "it still listens"
    with compile_clock() as again:
        fn(jnp.ones(()))
    assert again.seconds == 0


@pytest.mark.parametrize(
    "seconds, count", [(None, 1), (1e-6, 25), (0.04, 25), (0.041, 5), (0.2, 5), (0.201, 1), (1.0, 1), (9.0, 1)]
)
def test_a_call_takes_as_many_steps_as_fit_into_a_second_and_on_an_accelerator_always_25(seconds, count, monkeypatch):
    assert steps_per_call(seconds) == count
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert steps_per_call(seconds) == 25


def test_steps_are_timed_apart_from_their_compilation(monkeypatch):
    clock = itertools.count(100, 10)  # each look ten seconds after the one before
    monkeypatch.setattr(dispatch, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    state, context, data = problem()
    taken = timed_steps(Toy(sample, step), state, context, data, 3)
    assert (taken.compile_s, taken.seconds, taken.not_finite) == (10, 10, [])
    assert taken.metrics["number"].tolist() == [0, 1, 2] and int(taken.state.step) == 3


def test_what_is_not_finite_is_named_metrics_first():
    def broken(what):
        def broken_step(state, context, draw):
            after, metrics = step(state, context, draw)
            if what == "parameters":
                return after.replace(params={"w": after.params["w"].at[1].set(jnp.inf)}), metrics
            return after, metrics | {name: metrics["loss"] * jnp.nan for name in what}

        return timed_steps(Toy(sample, broken_step), *problem(), 1).not_finite

    assert broken([]) == [] and broken(["b", "a"]) == ["a", "b"] and broken("parameters") == ["parameters"]


class Counted(StoredImages):
    """Notes the rows that are read."""

    def __getitem__(self, index):
        READ.append(np.asarray(index).tolist())
        return super().__getitem__(index)


READ: list = []
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 2, 2, 3), np.uint8)


def pixel_sample(key, step, context, data):
    batch = gather(data, jax.random.randint(key, (3,), 0, len(data.labels)))
    return batch.images.mean(axis=(1, 2, 3)) * context["scale"], step


def test_images_on_the_host_give_the_same_steps_and_only_what_is_drawn_is_read():
    rows, labels = np.arange(11, 3, -1), jnp.arange(8)
    data = {"device": Rows(jnp.asarray(PIXELS[rows]), labels), "host": Rows(Counted(PIXELS, rows), labels)}
    ends = {}
    for where, images in data.items():
        state, context, _ = problem()
        losses = []
        for count in (2, 2, 1):  # a call goes on where the one before ended
            taken = timed_steps(Toy(pixel_sample, step), state, context, images, count)
            state = taken.state
            losses += taken.metrics["loss"].tolist()
        ends[where] = numbers(state), losses
    chex.assert_trees_all_close(ends["host"], ends["device"], rtol=1e-6)
    key = problem()[0].rng
    drawn = [jax.random.randint(jax.random.fold_in(key, t), (3,), 0, 8).tolist() for t in range(5)]
    assert sorted(READ) == sorted(drawn) and len(set(map(tuple, drawn))) == 5


def test_several_models_need_their_images_on_the_device():
    state, context, _ = problem()
    with pytest.raises(
        ValueError, match="stacked models need their images on the device; allowed: one model at a time"
    ):
        rows = Rows(Counted(PIXELS, np.arange(8)), jnp.arange(8))
        compile_steps(Toy(pixel_sample, step), state, context, rows, 2, stacked=True)


def test_where_an_argument_lies_is_part_of_its_description_if_it_was_placed():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    assert dispatch._described(jax.device_put(np.zeros(4), placed)).sharding == placed
    assert dispatch._described(jnp.zeros(4)).sharding is None


def test_numbers_become_arguments_and_arrays_stay_as_they_are():
    found = dispatch.numbers_as_arrays({"rate": 0.5, "epochs": 3, "rows": jnp.arange(3), "key": jax.random.key(0)})
    assert found["rate"].dtype == found["epochs"].dtype == jnp.float32 and found["epochs"] == 3
    assert found["rows"].dtype == jnp.int32 and jnp.issubdtype(found["key"].dtype, jax.dtypes.prng_key)
