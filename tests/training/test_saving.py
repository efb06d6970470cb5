"""What a run writes down."""

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


def test_a_run_begins_with_an_empty_history_and_is_saved_each_minute_and_at_its_end(tmp_path):
    empty = History(
        rows=[], steps=0, init_s=0.0, steps_s=0.0, compile_s=0.0, saved_step=None, best_step=None,
        best_distance=None, stopped_early=False, warnings=[], rho=None, cost=None,
    )  # fmt: skip
    assert History() == empty and History().ut_minutes == 0
    assert Saving(tmp_path, "a") == Saving(tmp_path, "a", every=0, every_s=60.0, at_end=True)
