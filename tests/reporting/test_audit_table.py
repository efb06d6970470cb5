"""Rows and sentences of audits: which side a figure lies on, and when nothing may be said."""

import pytest
from made_audit import finding, made_audit

from ltu_jax.auditing.findings import as_json, missing
from ltu_jax.auditing.registry import AUDITS
from ltu_jax.reporting import audit_table


def line(name, value, *, found, floor=None, not_done=None):
    one = finding(name, value, 0.01, 0.02, floor=floor) | {"not_done": not_done}
    (shown,) = audit_table.lines({"findings": [one], "verdict": {name: found}})
    return shown


def test_every_audit_has_a_head_and_words_for_both_sides():
    assert set(audit_table.HEADS) == set(audit_table.ABOVE) == set(audit_table.BELOW) == set(AUDITS)
    assert len(set(audit_table.HEADS.values())) == len(AUDITS) and max(map(len, audit_table.HEADS.values())) <= 17


def test_cells_are_the_numbers_of_the_finding():
    shown = {one.audit: one for one in audit_table.lines(made_audit())}
    assert list(shown) == list(AUDITS)
    assert shown["held_out"][3:10] == (
        ("0.571", "0.550 to 0.592", "0.957", "0.491 to 0.512", "0.031", "< 0.001", "found")
    )
    assert shown["recalibration"][3:9] == ("20.25", "18.75 to 21.75", "-0.50", "0.20 to 0.60", "2.10", "0.012")
    assert shown["relearning"][8:10] == ("", "no test") and shown["klom"].original == ""
    assert shown["canaries"].interval == "from 0.77"  # a bound has no upper end


@pytest.mark.parametrize("name", [name for name, audit in AUDITS.items() if audit.neutral is not None])
def test_both_sides_of_what_is_neutral_are_findings_with_words_of_their_own(name):
    neutral = AUDITS[name].neutral
    above, below = (line(name, neutral + off, found=True).sentence for off in (0.2, -0.2))
    assert above == f"Found: {audit_table.ABOVE[name]}." and below == f"Found: {audit_table.BELOW[name]}."
    assert name in ("canaries", "lira") or "leak" in below or "falls" in below


def test_without_a_test_only_the_range_of_retrains_speaks():
    within, above, below = (line("iam", value, found=None, floor=[0.48, 0.52]).sentence for value in (0.5, 0.6, 0.4))
    assert within == "No test; within the range of these Retrains."
    assert above.startswith("No test. It lies outside the range") and audit_table.ABOVE["iam"] in above
    assert audit_table.BELOW["iam"] in below
    assert "too few Retrains" in line("iam", 0.6, found=None).sentence
    assert (
        audit_table.BELOW["forgetting_quality"]
        in line("forgetting_quality", 0.1, found=None, floor=[0.2, 0.2]).sentence
    )


def test_what_is_not_found_says_so_and_where_it_lies():
    assert line("rmia", 0.53, found=False).sentence == "Not found."
    assert line("rmia", 0.5, found=False, floor=[0.49, 0.51]).sentence.startswith("Not found; within")
    assert line("rmia", 0.53, found=False, floor=[0.49, 0.51]).sentence.startswith("Not found. It lies outside")


def test_an_audit_that_could_not_be_made_says_why():
    (shown,) = audit_table.lines({"findings": [as_json(missing("rmia", "no references"))], "verdict": {"rmia": None}})
    assert (shown.verdict, shown.sentence) == ("not done", "Not done: no references.")
    assert (shown.value, shown.interval, shown.smallest) == ("", "", "")


def test_tests_are_counted_by_the_verdict():
    assert audit_table.tests({"verdict": {"a": True, "b": None, "c": False, "d": True}}) == (2, 3)


def test_of_a_model_that_was_not_made_here_only_what_is_known_is_told():
    run = {"method": "target.npz", "dataset": None, "model": None, "seeds": None, "forget": {"kind": None, "count": 9}}
    assert audit_table.title(run) == "target.npz" and audit_table.about(run) == "9 rows to forget"
    own = made_audit()["run"]
    assert audit_table.title(own) == "salun on digits"
    assert audit_table.about(own) == "resnet8, 90 rows to forget (random), train seed 3, split seed 4, unlearn seed 5"


@pytest.mark.parametrize("tested, words", [(0.1, audit_table.ABOVE), (-0.1, audit_table.BELOW)])
@pytest.mark.parametrize("name, value", [("held_out", 0.35), ("rmia", 0.49), ("recalibration", 0.0), ("strata", 0.0)])
def test_the_side_is_that_of_what_was_tested(name, value, tested, words):
    one = finding(name, value, 0.01, 0.02, floor=None) | {"tested": tested, "not_done": None}
    (shown,) = audit_table.lines({"findings": [one], "verdict": {name: True}})
    assert shown.sentence == f"Found: {words[name]}."
