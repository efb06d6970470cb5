"""How many cores a job has, and which command is shown for it; how jobs run is told by the tests of a sweep."""

import pytest

from ltu_jax.sweeping import pool
from ltu_jax.sweeping.grid import Job


def test_every_job_has_as_many_cores_and_none_of_anothers(monkeypatch):
    """Their number changes the bits, so that no job may have more than another."""
    monkeypatch.setattr(pool, "usable_cores", lambda: [2, 3, 5, 7, 11])
    assert [pool._share(slot, 2) for slot in range(2)] == [[2, 3], [5, 7]]
    assert [pool._share(slot, 5) for slot in range(5)] == [[2], [3], [5], [7], [11]]
    assert [pool._share(slot, 7) for slot in range(7)] == [[2], [3], [5], [7], [11], [2], [3]]
    assert pool._share(0, 1) == [2, 3, 5, 7, 11]


@pytest.mark.parametrize(
    ("workers", "cluster", "prefix"),
    [(5, "local", "taskset -c 0 "), (2, "local", "taskset -c 0-1 "), (1, "local", "taskset -c 0-4 "), (2, "slurm", "")],
)
def test_a_command_that_is_shown_has_as_many_cores_as_the_job(monkeypatch, workers, cluster, prefix):
    monkeypatch.setattr(pool, "usable_cores", lambda: [2, 3, 5, 7, 11])
    assert pool.shown_command(Job("slug", ["python", "-m", "x"]), workers, cluster) == f"{prefix}python -m x"
