"""Whatever comes in at a door is answered, or refused in one line: no other exception leaves a reader."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings

from experiments.reliability.fuzzing import DOORS, REFUSALS, SLOW


@pytest.mark.parametrize("name", DOORS)
def test_a_door_answers_or_refuses_in_one_line(name, tmp_path_factory):
    door = DOORS[name]

    @settings(
        max_examples=3 if name in SLOW else 60,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(door.given)
    def opened(given):
        try:
            door.read(tmp_path_factory.mktemp("door"), given)
        except REFUSALS as error:
            assert len(str(error).splitlines()) == 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        opened()
