"""Findings: what JSON can hold of them, and the verdict over several."""

import json

import numpy as np
import pytest

from ltu_jax.auditing.findings import Finding, as_json, missing, verdict
from ltu_jax.auditing.intervals import Figure


def test_a_finding_is_json_whatever_its_details_are():
    details = {"inner": Figure(1.0, np.float64(0), np.inf, np.float32(2)), 3: [np.arange(2), (np.int64(4), None)]}
    finding = Finding("rmia", Figure(0.5, np.nan, 1, 0), floor=(0.1, 0.2), details={**details, "yes": np.bool_(True)})
    found = json.loads(json.dumps(as_json(finding), allow_nan=False))
    assert found["unlearned"] == {"value": 0.5, "low": None, "high": 1, "smallest": 0}
    assert found["details"]["inner"] == {"value": 1, "low": 0, "high": None, "smallest": 2}
    assert found["details"]["3"] == [[0, 1], [4, None]] and found["details"]["yes"] is True
    assert found["floor"] == [0.1, 0.2] and found["p_value"] is None and found["not_done"] is None


@pytest.mark.parametrize(
    "values, rejected",
    [
        ((0.012, 0.016, 0.024, 0.2), (True, True, True, False)),
        ((0.013, 0.014, 0.015, 0.016), (False, False, False, False)),  # the smallest is above 5 % / 4
        ((0.2, 0.017, 0.024, 0.001), (False, False, False, True)),  # .017 is above 5 % / 3, so .024 is not looked at
        ((0.049, 0.0001, 0.0001, 0.0001), (True, True, True, True)),
    ],
)
def test_a_verdict_is_holms_and_has_nothing_to_say_without_a_p_value(values, rejected):
    names = ["held_out", "rmia", "iam", "retrain"]
    findings = [Finding(name, Figure(0.5, 0.4, 0.6, 0.1), p_value=p) for name, p in zip(names, values, strict=True)]
    found = verdict([missing("canaries", "no"), *findings])
    assert found == {"canaries": None, **dict(zip(names, rejected, strict=True))}
