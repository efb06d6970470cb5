"""The search of one row, by itself: what it asks for, and when a trial is behind."""

import json
import math

import pytest

from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import Row, Sweep
from ltu_jax.sweeping.search import Search, mean_gap

SPACE = {"method.learning_rate": (1e-5, 0.1, "log"), "method.batch_size": (8, 600)}


@pytest.fixture
def search(tmp_path):
    def make(settings=None, space=None):
        row = Row("FT", "finetune", {"method.learning_rate": 0.02, **(settings or {})}, space=space or SPACE)
        sweep = Sweep("digits", [row], seeds=(10, 11))
        return Search(sweep, row, tmp_path / "trials", tmp_path / "cache", tmp_path / "search.journal")

    return make


def write_gaps(trial, *gaps):
    for run, gap in zip(trial.runs, gaps, strict=False):
        run.result.parent.mkdir(parents=True)
        run.result.write_text(json.dumps({"gap": {"mean": gap}}))


def test_its_own_settings_come_first_and_an_unfinished_trial_is_asked_for_again(search):
    first = search().ask()
    assert [run.config.seed for run in first.runs] == [10, 11]
    assert {run.config.method.learning_rate for run in first.runs} == {0.02}
    assert search().ask() == first
    search().tell(first, 2.0)
    second = search().ask()
    assert second.number == 1 and second.runs[0].config.method != first.runs[0].config.method
    assert [trial.gap for trial in search().finished()] == [2.0]


def test_a_trial_is_behind_above_the_best_over_all_seeds(search):
    first, mine = search().ask(), search()
    write_gaps(first, 1.0, 5.0)
    assert mean_gap(first.runs) == 3.0
    mine.tell(first, 3.0)
    second = mine.ask()
    assert math.isinf(mean_gap(second.runs[:1]))
    write_gaps(second, 2.9)
    assert not mine.falls_behind(second, 1) and math.isinf(mean_gap(second.runs))
    mine.tell(second, None)
    assert mine.finished()[1].given_up and math.isinf(mine.finished()[1].gap)
    third = mine.ask()
    write_gaps(third, 3.1)
    assert mine.falls_behind(third, 1)


def test_a_value_of_its_own_outside_the_space_is_refused(search):
    with pytest.raises(ConfigError, match="^row 'FT': method.learning_rate: its own value 0.5 is not in its space; al"):
        search({"method.learning_rate": 0.5})
    with pytest.raises(ConfigError, match="method.batch_size: 0"):
        search(space={"method.batch_size": (0, 600)})
