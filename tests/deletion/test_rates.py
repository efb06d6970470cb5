"""The rates that are told are those of the models that were judged."""

import json
from pathlib import Path

from ltu_jax.deletion import rates

MODELS = Path(__file__).parents[2] / "experiments" / "results" / "evidence_power" / "digits.jsonl"


def test_they_are_counted_in_the_file_of_all_models():
    rows = [json.loads(line) for line in MODELS.read_text().splitlines()]
    for genuine, told in ((True, rates.GENUINE), (False, rates.FAKES)):
        accepted = [row["accepted"] for row in rows if row["genuine"] is genuine]
        assert told == (len(accepted), accepted.count(False))
