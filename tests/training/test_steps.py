"""The one loop, with an algorithm that can be added up by hand."""

import dataclasses
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from progress_recorder import Killed, recording

from ltu_jax.training import steps
from ltu_jax.training.saving import History, Run, Saving, WrongRunError, read_metrics
from ltu_jax.training.steps import run_steps
from ltu_jax.types import make_state


@flax.struct.dataclass
class Counter:
    """Adds ``rate * (t + 1)`` to its parameter at step t: after n steps it is ``rate * n (n + 1) / 2``."""

    rate: jax.Array

    def sample(self, key, step, context, data):
        return step + 1

    def step(self, state, context, draw):
        params = {"x": state.params["x"] + self.rate * draw}
        return state.replace(step=state.step + 1, params=params), {"x": params["x"]}


def apply_fn(params, model_state, images, train):
    raise AssertionError("never called")


TX = optax.identity()


def run(rate=1.0, num_steps=10, **more):
    state = make_state(apply_fn, {"x": jnp.zeros(())}, {}, TX, jax.random.key(0))
    return Run(Counter(jnp.float32(rate)), state, jnp.zeros(()), jnp.zeros(1), num_steps, **more)


def go(runs, **more):
    run_steps(runs, label="counting", remedy="rate", **more)
    return [float(one.state.params["x"]) for one in runs]


def after(rate, n):
    return rate * n * (n + 1) / 2


def test_the_steps_of_one_run_and_a_row_for_each_that_is_logged():
    one = run(2.0)
    assert go([one], log_every=4) == [after(2.0, 10)]
    assert one.history.rows == [{"step": n, "x": after(2.0, n)} for n in (4, 8, 10)]
    assert one.history.steps == one.step == int(one.state.step) == 10
    assert one.history.steps_s > 0


def test_runs_of_different_lengths_share_their_steps_and_each_ends_at_its_own():
    runs = [run(1.0, 4), run(2.0, 9), run(3.0, 9)]
    assert go(runs) == [after(1.0, 4), after(2.0, 9), after(3.0, 9)]
    assert [one.step for one in runs] == [4, 9, 9] and not any(one.history.rows for one in runs)


def steps_of(saving):
    return sorted(int(path.name) for path in (saving.directory / "checkpoints").iterdir() if path.name.isdigit())


def stopped(runs, at):
    with pytest.raises(Killed):
        go(runs, progress=recording([], until=at * len(runs)))


def test_a_run_that_was_stopped_earlier_catches_up_before_both_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 1)
    kept = [Saving(tmp_path / name, name, 1) for name in "ab"]
    stopped([run(1.0, saving=kept[0])], at=3)
    stopped([run(2.0, saving=kept[1])], at=6)
    assert [steps_of(saving) for saving in kept] == [[2, 3], [5, 6]]
    counts = []
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)  # more than the first lacks
    kept = [dataclasses.replace(saving, every=0) for saving in kept]
    assert go([run(1.0, saving=kept[0]), run(2.0, saving=kept[1])], progress=recording(counts)) == [55.0, 110.0]
    assert counts == [3 + 6, 3, 2 * 4]


@pytest.mark.parametrize("lost, left, begins", [(8, [4], 4), (4, [], 0)])
def test_runs_that_were_killed_while_they_were_saved_go_on_together(tmp_path, monkeypatch, lost, left, begins):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    kept, counts = [Saving(tmp_path / name, name, 4) for name in "ab"], []
    stopped([run(rate, saving=saving) for rate, saving in zip((1.0, 2.0), kept, strict=True)], at=lost)
    shutil.rmtree(tmp_path / "b" / "checkpoints" / str(lost))  # the kill came before it
    assert steps_of(kept[1]) == left and lost in steps_of(kept[0])
    runs = [run(rate, saving=saving) for rate, saving in zip((1.0, 2.0), kept, strict=True)]
    assert go(runs, progress=recording(counts), log_every=1) == [55.0, 110.0]
    assert counts[0] == 2 * begins and all(count % 2 == 0 for count in counts)  # never one of them alone
    assert [row["step"] for row in runs[0].history.rows][-2:] == [9, 10]


def test_of_another_run_nothing_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    kept = [Saving(tmp_path / name, name, 4) for name in "ab"]
    stopped([run(1.0, saving=saving) for saving in kept], at=8)
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "8")
    others = [kept[0], dataclasses.replace(kept[1], identity="another")]
    with pytest.raises(WrongRunError):
        go([run(1.0, saving=saving) for saving in others])
    assert steps_of(kept[0]) == [4, 8]


def test_runs_that_step_together_are_saved_together(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 3)
    runs = [run(saving=Saving(tmp_path / "a", "a", 6)), run(saving=Saving(tmp_path / "b", "b"))]
    go(runs)
    assert steps_of(runs[0].saving) == steps_of(runs[1].saving) == [6, 10]


def test_a_score_is_asked_for_at_its_period_and_at_the_end_and_may_stop_the_run():
    seen = []

    def score(one):
        seen.append(one.step)
        one.history.stopped_early = one.step == 6 and one.num_steps == 10
        return {"eval/x": 1.0}

    runs = [run(score=score), run(num_steps=7, score=score)]
    go(runs, log_every=5, score_every=3)
    assert sorted(seen) == [3, 3, 6, 6, 7]
    assert [row["step"] for row in runs[0].history.rows] == [3, 5, 6]  # logged, or scored
    assert [row["step"] for row in runs[1].history.rows] == [3, 5, 6, 7]
    assert all(("eval/x" in row) == (row["step"] != 5) for one in runs for row in one.history.rows)


@pytest.mark.parametrize("every, at_end, kept", [(4, True, ["8", "10"]), (4, False, ["4", "8"]), (0, False, [])])
def test_checkpoints_lie_at_their_period_and_at_the_end_if_that_is_asked_for(tmp_path, every, at_end, kept):
    go([run(saving=Saving(tmp_path, "a", every, at_end=at_end))], log_every=1)
    assert sorted((p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()), key=int) == kept
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 10


def test_without_a_log_a_scored_step_is_a_row_all_the_same():
    one = run(score=lambda one: {"eval/x": 1.0})
    go([one], score_every=4)
    assert [row["step"] for row in one.history.rows] == [4, 8, 10]


def test_what_is_not_finite_is_named_with_its_steps_and_what_to_change(monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    with pytest.raises(
        FloatingPointError,
        match=r"^counting: x not finite in steps 1\.\.4; no checkpoint was saved; try a smaller rate$",
    ):
        go([run(np.nan)])


def test_each_run_has_its_share_of_the_seconds_of_every_call(monkeypatch):
    """Two runs, calls of 4 and 3 steps: 12 s of steps each, and 8 s of compiling."""
    real, seen = steps.timed_steps, []
    monkeypatch.setattr(steps, "timed_steps", lambda *a, **k: real(*a, **k)._replace(seconds=12.0, compile_s=8.0))
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: seen.append(seconds) or 4)
    runs = [run(1.0, 7), run(2.0, 7)]
    go(runs)
    assert seen == [None, 12.0 / 4]
    for one in runs:
        assert (one.history.steps_s, one.history.compile_s) == (2 * 12.0 / 2, 2 * 8.0 / 2)


def test_a_score_at_every_step():
    one = run(num_steps=3, score=lambda one: {"eval/x": float(one.step)})
    go([one], score_every=1)
    assert one.history.rows == [{"step": n, "x": after(1.0, n), "eval/x": n} for n in (1, 2, 3)]


def test_what_is_not_logged_leaves_no_file_and_what_is_scored_has_one_without_rows_of_the_future(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 1)
    for name, more in (("plain", {}), ("scored", {"score_every": 1})):
        scored = {"score": lambda one: {"eval/x": 1.0}} if more else {}
        kept = Saving(tmp_path / name, name, 4)
        with pytest.raises(Killed):
            go([run(saving=kept, **scored)], progress=recording([], until=6), **more)
        shutil.rmtree(tmp_path / name / "checkpoints" / "6")  # as if it had been killed at once: of step 4 on
        assert go([run(saving=kept, **scored)], **more) == [after(1.0, 10)]
        file = tmp_path / name / "metrics.jsonl"
        if more:
            assert [row["step"] for row in read_metrics(file)] == list(range(1, 11))
        else:
            assert not file.exists()


def test_the_time_of_compiling_adds_up_over_a_stop(tmp_path, monkeypatch):
    """8 s at each call of four steps, and 5 s that the init of the second process took."""
    real = steps.timed_steps
    monkeypatch.setattr(steps, "timed_steps", lambda *a, **k: real(*a, **k)._replace(compile_s=8.0))
    monkeypatch.setattr(steps, "steps_per_call", lambda seconds: 4)
    kept = Saving(tmp_path, "a", 4)
    with pytest.raises(Killed):
        go([run(saving=kept)], progress=recording([], until=4))
    again = run(saving=kept, history=History(compile_s=5.0))
    go([again])
    assert again.history.compile_s == 8.0 + 5.0 + 2 * 8.0
