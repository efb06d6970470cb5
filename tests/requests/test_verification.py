"""Damage and forgery: whatever was changed after a request is found."""

import json
import shutil

import numpy as np
import pytest
from conftest import request_settings

from ltu_jax.requests import ledger, receipt
from ltu_jax.requests.fulfil import Request, fulfil
from ltu_jax.requests.verification import check_hashes, check_receipt, open_home, rows_of


@pytest.fixture(scope="module")
def made(tmp_path_factory, source, spec, original):
    """One request on rows 0..29, its settings, and what was asked."""
    home = tmp_path_factory.mktemp("verification") / "out"
    settings, ids = request_settings(), [str(name) for name in source.ids[:30]]
    fulfil(Request(settings, ids, home), source, spec, original)
    return home, settings, ids


@pytest.fixture
def home(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "out")


def findings(home, **given):
    return check_hashes(open_home(home / "request-1" / "receipt.json"), **given)


def test_an_untouched_request_is_verified(made, source, spec, original):
    home, settings, ids = made
    assert findings(home, ids=ids) == []
    assert check_receipt(home / "request-1" / "receipt.json", settings, source, spec, original, claim=False) == []
    assert check_receipt(home / "request-1" / "receipt.json", settings, source, spec, None, claim=False) == []


def test_one_byte_of_any_file_is_found(home):
    """The model, the configuration, the result, the report ...: each file that the request left."""
    files = [path for path in (home / "request-1").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 8
    rng = np.random.default_rng(0)
    for path in files:
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *rng.integers(0, len(whole), 3).tolist()}:
            raw = bytearray(whole)
            raw[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(raw))
            if path.name == "receipt.json":
                assert _is_found_in_receipt(home, whole), place
            else:
                name = path.relative_to(home / "request-1").as_posix()
                assert f"{name}: it was altered" in findings(home), place
        path.write_bytes(whole)
    assert findings(home) == []


def _is_found_in_receipt(home, whole):
    try:
        return bool(findings(home)) or json.loads((home / "request-1" / "receipt.json").read_bytes()) == json.loads(
            whole
        )
    except (ValueError, LookupError):  # no JSON, or no receipt any more
        return True


def test_other_ids_are_found_and_the_order_has_no_say(home, made):
    ids = made[2]
    assert findings(home, ids=ids[::-1]) == []
    for other in (ids[1:], [*ids, "toy_0031"], [*ids[:-1], "toy_0030"]):
        assert findings(home, ids=other) == ["ids: they are not those forgotten"]
    (home / "salt").unlink()
    assert findings(home, ids=ids) == ["salt: it is missing, so ids cannot be compared"]


def test_a_receipt_that_the_ledger_does_not_know_is_found(home):
    (home / "ledger.jsonl").unlink()
    assert findings(home) == ["ledger.jsonl: it has no request 1"]


def forged(home, change, **evidence):
    """The receipt changed and sealed anew, and the ledger with it: somebody who has everything but the key."""
    path = home / "request-1" / "receipt.json"
    told = json.loads(path.read_text())
    body = {name: value for name, value in told.items() if name not in ("receipt_sha256", "signature")}
    change(body)
    sealed = receipt.seal(body)
    path.write_text(json.dumps(sealed))
    [entry] = ledger.read_ledger(home)
    (home / "ledger.jsonl").unlink()
    ledger.append(home, entry._replace(receipt_sha256=sealed["receipt_sha256"]))
    assert findings(home) == []
    return path


def test_evidence_that_was_made_up_is_found_by_computing_it_anew(home, made, source, spec, original):
    settings = made[1]

    def flatter(body):
        body["evidence"]["after"]["attack_auc"][0] = 0.9
        body["evidence"]["after"]["held_out_accuracy"][0] += 10
        body["evidence"]["rows"]["forget"] = 31

    found = check_receipt(forged(home, flatter), settings, source, spec, original, claim=False)
    text = " ".join(found)
    assert "evidence: rows forget was 31, is 30" in found
    assert "after attack_auc 0 was 0.9" in text and "after held_out_accuracy 0 was" in text and len(found) == 3


def test_evidence_on_other_data_is_found(home, made, source, spec, original):
    import dataclasses

    labels = source.labels.copy()
    labels[source.num_train :] = (labels[source.num_train :] + 1) % 4
    found = check_receipt(
        home / "request-1" / "receipt.json",
        made[1],
        dataclasses.replace(source, labels=labels),
        spec,
        original,
        claim=False,
    )
    assert any("held_out_accuracy" in line for line in found)


def test_the_claim_is_judged_on_both_models(home, made, source, spec, original):
    path = home / "request-1" / "receipt.json"
    assert check_receipt(path, made[1], source, spec, None) == ["claim: it cannot be tested without the model before"]
    for line in check_receipt(path, made[1], source, spec, original):
        assert line.startswith("claim: ")


def test_which_rows_they_were_is_known_from_salt_and_ledger_alone(made, source):
    home, settings, ids = made
    splits, earlier = rows_of(open_home(home / "request-1" / "receipt.json"), settings, source)
    np.testing.assert_array_equal(source.ids[splits.forget], sorted(ids))
    assert not len(earlier)
    (opened,) = [open_home(home / "request-1" / "receipt.json", home)]  # --model out/ is the folder of all requests
    assert opened.folder == home / "request-1"
    with pytest.raises(ledger.LedgerError, match="nobody can tell which rows"):
        rows_of(opened._replace(salt=None), settings, source)


def test_rows_that_are_gone_are_said(made, source):
    import dataclasses

    home, settings, _ = made
    left = np.arange(5, len(source.ids))
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=155
    )
    with pytest.raises(ledger.LedgerError, match="5 of the forgotten rows are no longer in the data"):
        rows_of(open_home(home / "request-1" / "receipt.json"), settings, smaller)
