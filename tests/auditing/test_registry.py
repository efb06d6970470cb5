"""What audits there are, and how they are chosen; the command's own messages are in ``test_audit.py``."""

from ltu_jax.auditing.registry import AUDITS, chosen_audits


def test_every_audit_says_what_it_claims_and_what_not():
    for name, audit in AUDITS.items():
        assert audit.claims.endswith(".") and audit.does_not.endswith("."), name
        assert audit.level in (0, 1, 2)


def test_a_level_has_the_audits_of_those_below_and_names_keep_the_order():
    assert chosen_audits(None, 0) == ["held_out", "retrain", "recalibration"]
    assert chosen_audits(None, 2) == [*AUDITS] and "lira" not in chosen_audits(None, 1)
    assert chosen_audits(["rmia", "held_out"], 1) == ["held_out", "rmia"]
