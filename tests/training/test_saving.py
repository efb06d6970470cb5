"""What a run writes down."""

import optax
import pytest

from ltu_jax.training.saving import History, Run, Saving, open_savers, read_metrics


def test_unlearning_time_is_init_and_steps_in_minutes():
    assert History(init_s=30.0, steps_s=90.0, compile_s=1000.0).ut_minutes == 2.0


def test_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]


def test_without_a_folder_nothing_is_written_and_the_history_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(None, None, None, None, 1)
    with open_savers([run]) as (saver,):
        saver.resume(logs=True)
        saver.record([{"step": 1.0}])
        saver.save()
    assert run.history.rows == [{"step": 1.0}] and not list(tmp_path.iterdir())


def saved_run(folder, rows=(), step=2):
    """A run that is saved in a folder, with rows that its judge has decided by."""
    import jax
    import jax.numpy as jnp

    from ltu_jax.types import make_state

    state = make_state(lambda *args: None, {"w": jnp.ones(3)}, {}, optax.sgd(0.1), jax.random.key(0))
    run = Run(None, state, None, None, 4, Saving(folder, "mine"))
    run.history.steps = step
    if rows:
        with open_savers([run]) as (saver,):
            saver.record(list(rows))
            saver.save()
    return run


ROWS = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "eval/distance": 1 / 3}]
HARM = {
    "altered": lambda text: text.replace("0.33", "0.03"),
    "emptied": lambda text: "",
    "torn": lambda text: text[:-5],
    "no text": lambda text: "\0\udcff" * 9,
    "no rows": lambda text: '[1]\n{"a": 2}\n',
    "deleted": None,
}


@pytest.mark.parametrize("harm", HARM)
def test_rows_come_from_the_checkpoint_and_a_file_that_says_otherwise_is_told_and_written_anew(tmp_path, caplog, harm):
    saved_run(tmp_path, ROWS)
    file = tmp_path / "metrics.jsonl"
    before = file.read_text()
    if HARM[harm] is None:
        file.unlink()
    else:
        file.write_bytes(HARM[harm](before).encode(errors="surrogateescape"))
    run = saved_run(tmp_path, step=0)
    with open_savers([run]) as (saver,):
        saver.resume(logs=True)
    assert run.history.rows == ROWS and run.step == 2 and file.read_text() == before
    assert f"{file} is not what was saved: written anew" in caplog.text and len(caplog.records) == 1


def test_rows_after_the_checkpoint_are_no_damage_but_are_taken_anew(tmp_path, caplog):
    saved_run(tmp_path, ROWS)
    file = tmp_path / "metrics.jsonl"
    before = file.read_text()
    file.write_text(before + '{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    run = saved_run(tmp_path, step=0)
    with open_savers([run]) as (saver,):
        saver.resume(logs=True)
    assert run.history.rows == ROWS and file.read_text() == before and not caplog.records


def test_a_run_begins_with_an_empty_history_and_is_saved_each_minute_and_at_its_end(tmp_path):
    empty = History(
        rows=[], steps=0, init_s=0.0, steps_s=0.0, compile_s=0.0, saved_step=None, best_step=None,
        best_distance=None, stopped_early=False, warnings=[], rho=None, cost=None,
    )  # fmt: skip
    assert History() == empty and History().ut_minutes == 0
    assert Saving(tmp_path, "a") == Saving(tmp_path, "a", every=0, every_s=60.0, at_end=True)
