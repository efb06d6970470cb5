"""Damage and forgery: whatever was changed after a request is found."""

import contextlib
import dataclasses
import hmac
import json
import math
import shutil
import types

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_request import request_settings

from ltu_jax import config
from ltu_jax.deletion import ledger, receipt, verification
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.deletion.receipt import is_shown, verdict_of
from ltu_jax.deletion.rows import drawn
from ltu_jax.deletion.verification import (
    before_weights,
    check_hashes,
    check_receipt,
    config_of,
    open_request,
    rows_of,
)
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree, save_tree
from ltu_jax.unlearning.problem import cut


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
    return check_hashes(open_request(home / "request-1" / "receipt.json"), **given)


def test_an_untouched_request_is_verified(made, source, spec, original):
    home, settings, ids = made
    assert findings(home, ids=ids) == []
    path = home / "request-1" / "receipt.json"
    assert check_receipt(path, source, spec, original, claim=False, unsigned=True) == []
    assert check_receipt(path, source, spec, None, claim=False, unsigned=True) == []
    [line] = check_receipt(path, source, spec, None, claim=False)
    assert line.startswith("the files agree with one another; who wrote them is NOT verified")
    assert check_receipt(path, source, spec, None, claim=False, public="a" * 64) == ["signature: there is none"]


def test_checking_imports_no_attackers_and_no_measure_that_a_receipt_names(home):
    saved = open_request(home / "request-1" / "receipt.json")
    settings = json.loads(json.dumps(saved.settings))
    settings["attackers"]["names"], settings["evaluation"]["measure"] = ["evil:network", "sorted"], "evil:measure"
    found = config_of(saved._replace(settings=settings))
    assert found.attackers == config.Attackers() and found.evaluation.measure is None
    assert found.evaluation.batch_size == saved.settings["evaluation"]["batch_size"]


def test_what_checking_does_not_run_may_have_other_fields(home):
    saved = open_request(home / "request-1" / "receipt.json")
    settings = json.loads(json.dumps(saved.settings))
    settings["method"]["gone"], settings["attackers"]["gone"] = 1, "x"
    del settings["calibration"]
    assert config_of(saved._replace(settings=settings)) == config_of(saved)
    settings["data"]["gone"] = 1
    with pytest.raises(ConfigError, match="config.data.gone: no such field on one side"):
        config_of(saved._replace(settings=settings))


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
                with contextlib.suppress(ConfigError):
                    assert findings(home), place
            else:
                name = path.relative_to(home / "request-1").as_posix()
                assert f"{name}: it was altered" in findings(home), place
        path.write_bytes(whole)
    assert findings(home) == []


def test_other_ids_are_found_and_the_order_has_no_say(home, made):
    ids = made[2]
    assert findings(home, ids=ids[::-1]) == []
    for other in (ids[1:], [*ids, "toy_0031"], [*ids[:-1], "toy_0030"]):
        assert findings(home, ids=other) == ["ids: they are not those forgotten"]
    (home / "salt").unlink()
    message = "salt: it is missing or not readable, so files, models and ids cannot be compared"
    assert findings(home, ids=ids) == findings(home) == [message]


def test_a_receipt_that_the_ledger_does_not_know_is_found(home):
    (home / "ledger.jsonl").unlink()
    assert findings(home) == ["ledger.jsonl: it has no request 1"]


def forged(home, change, **evidence):
    """Findings after a forger, who has everything but the key, changed and sealed the receipt and the ledger again."""
    path = home / "request-1" / "receipt.json"
    parsed = json.loads(path.read_text())
    body = {name: value for name, value in parsed.items() if name not in ("receipt_sha256", "signature")}
    change(body)
    sealed = receipt.seal_receipt(body)
    path.write_text(receipt.receipt_text(sealed))
    [entry] = ledger.read_ledger(home)
    (home / "ledger.jsonl").unlink()
    after = sealed["model"]["after"]["salted_sha256"]
    ledger.append(home, entry._replace(receipt_sha256=sealed["receipt_sha256"], model_sha256=after))
    assert findings(home) == []
    return path


def hashed(folder):
    return receipt.files_salted_sha256(folder, ledger.read_salt(folder.parent) or b"")


def findings_of_forged(home, change):
    with contextlib.suppress(AssertionError):
        forged(home, change)
    return findings(home)


def test_evidence_that_was_made_up_is_found_by_computing_it_anew(home, source, spec, original):
    def flatter(body):
        body["evidence"]["after"]["attack_auc"][0] = 0.9
        body["evidence"]["classes"][1]["held_out"][1] += 30.0
        body["evidence"]["after"]["held_out_accuracy"][0] += 10
        body["evidence"]["rows"]["forget"] = 31

    found = check_receipt(forged(home, flatter), source, spec, original, claim=False)
    text = " ".join(found)
    assert "evidence: rows forget was 31, is 30" in found
    assert "after attack_auc 0 was 0.9" in text and "after held_out_accuracy 0 was" in text
    assert "classes 1 held_out 1 was" in text and len(found) == 4


def test_evidence_on_other_data_is_found(home, source, spec, original):
    labels = source.labels.copy()
    labels[source.num_train :] = (labels[source.num_train :] + 1) % 4
    found = check_receipt(
        home / "request-1" / "receipt.json",
        dataclasses.replace(source, labels=labels),
        spec,
        original,
        claim=False,
    )
    assert any("held_out_accuracy" in line for line in found)


def test_the_claim_is_judged_on_both_models(home, source, spec, original):
    path = home / "request-1" / "receipt.json"
    [line] = check_receipt(path, source, spec, None, unsigned=True)
    assert line.startswith("claim: it cannot be tested without the model before: ") and "--keep_original" in line
    said = "shown" if json.loads(path.read_text())["claim"]["shown"] else "NOT SHOWN"
    assert line.endswith(f"; the receipt says that forgetting is {said} (not judged anew)")
    for line in check_receipt(path, source, spec, original, unsigned=True):
        assert line.startswith("claim: ")


def test_which_rows_they_were_is_known_from_what_was_written_under_the_salt(made, source):
    home, settings, ids = made
    splits = cut(settings, source, ids)
    index = rows_of(open_request(home / "request-1" / "receipt.json"), source)
    assert set(index) == {"forget", "remain", "held_out"}
    np.testing.assert_array_equal(index["forget"], splits.forget)
    # four fifths of each class, by their hashes with the model's under the salt
    salt, model = ledger.read_salt(home), open_request(home / "request-1" / "receipt.json").receipt["model"]["after"]
    mac = lambda text: hmac.new(salt, text.encode(), "sha256").hexdigest()  # noqa: E731
    key = {row: mac(f"{model['salted_sha256']} {mac(str(source.ids[row]))}") for row in splits.test.tolist()}
    of_class = [[row for row in key if source.labels[row] == label] for label in range(4)]
    wanted = [row for rows in of_class for row in sorted(rows, key=key.__getitem__)[: math.ceil(0.8 * len(rows))]]
    np.testing.assert_array_equal(index["held_out"], sorted(wanted))
    assert 0 < len(wanted) < len(splits.test)
    assert np.isin(index["remain"], splits.remain).all()
    # rows that come later, or another order of the data, have no say
    rng = np.random.default_rng(0)
    order = np.r_[rng.permutation(source.num_train), rng.permutation(np.arange(source.num_train, len(source.ids)))]
    other = dataclasses.replace(source, images=source.images[order], labels=source.labels[order], ids=source.ids[order])
    again = rows_of(open_request(home / "request-1" / "receipt.json"), other)
    assert all(set(other.ids[again[name]]) == set(source.ids[index[name]]) for name in index)
    (opened,) = [open_request(home / "request-1" / "receipt.json", home)]  # --model out/ is the folder of all requests
    assert opened.folder == home / "request-1"
    with pytest.raises(ledger.LedgerError, match="nobody can tell which rows"):
        rows_of(opened._replace(salt=None), source)


@pytest.mark.parametrize("change", ["trained", "twice", "calibration"])
def test_rows_that_cannot_be_held_out_are_no_evidence(home, source, spec, original, change):
    """An operator who writes down rows that look better, and seals everything anew."""
    path = home / "request-1" / "rows.json"
    recorded = json.loads(path.read_text())
    wanted = {
        "trained": lambda: recorded["measured"]["remain"],
        "twice": lambda: recorded["measured"]["held_out"][:20] * 2,
        "calibration": lambda: recorded["held_out"]["validation"],
    }[change]()
    recorded["measured"]["held_out"] = wanted
    if change == "trained":
        recorded["held_out"]["test"], recorded["measured"]["remain"] = wanted, []
    path.write_text(json.dumps(recorded))
    forged_path = forged(home, lambda body: body.update(files_salted_sha256=hashed(home / "request-1")))
    with pytest.raises(
        ledger.LedgerError, match=r"rows.json: (rows are measured twice|held_out rows are in the wrong)"
    ):
        check_receipt(forged_path, source, spec, original)


@pytest.mark.parametrize("change", ["another draw", "a smaller pool", "all of them", "no pool"])
def test_held_out_rows_that_salt_and_model_do_not_draw_are_no_evidence(home, source, spec, original, change):
    """An operator who leaves out held-out rows that look worse than the forgotten ones."""
    path = home / "request-1" / "rows.json"
    recorded = json.loads(path.read_text())
    pool = [name for names in recorded["drawn_from"].values() for name in names]
    measured = recorded["measured"]["held_out"]
    if change == "another draw":
        [other, *_] = set(pool) - set(measured)
        measured[0] = other
    elif change == "a smaller pool":
        kept = {label: names[1:] for label, names in recorded["drawn_from"].items()}
        after = json.loads((home / "request-1" / "receipt.json").read_text())["model"]["after"]["salted_sha256"]
        recorded["drawn_from"], recorded["measured"]["held_out"] = kept, drawn(kept, ledger.read_salt(home), after)
    elif change == "all of them":
        recorded["measured"]["held_out"] = pool
    else:
        recorded["drawn_from"] = None
    path.write_text(json.dumps(recorded))
    forged_path = forged(home, lambda body: body.update(files_salted_sha256=hashed(home / "request-1")))
    with pytest.raises(ledger.LedgerError, match="rows.json: the held-out rows measured are not those that salt and"):
        check_receipt(forged_path, source, spec, original)


def test_a_receipt_from_before_there_were_claims_and_draws_is_verified(home, source, spec, original):
    """Its held-out rows were all there were."""
    path = home / "request-1" / "rows.json"
    recorded = json.loads(path.read_text())
    del recorded["drawn_from"]
    path.write_text(json.dumps(recorded))

    def older(body):
        for name in ("claim", "about", "copies", "given_model", "in_memory", "report", "tokens"):
            del body[name]
        body["files_salted_sha256"] = hashed(home / "request-1")

    assert check_receipt(forged(home, older), source, spec, original, claim=False, unsigned=True) == []
    receipt = open_request(home / "request-1" / "receipt.json").receipt
    assert is_shown(receipt) is None and "does NOT SAY whether forgetting is shown" in verdict_of(receipt)


@pytest.mark.parametrize("kept", ["about", "copies", "given_model", "in_memory", "report", "tokens"])
def test_a_receipt_whose_claim_was_cut_out_is_none(home, source, spec, original, kept):
    def cut(body):
        for name in {"claim", "about", "copies", "given_model", "in_memory", "report", "tokens"} - {kept}:
            del body[name]

    with pytest.raises(ConfigError, match="is no receipt of schema 2"):
        check_receipt(forged(home, cut), source, spec, original, unsigned=True)


def test_a_verdict_that_was_made_up_is_found_by_judging_anew(home, source, spec, original):
    claim = json.loads((home / "request-1" / "receipt.json").read_text())["claim"]

    def flatter(body):
        body["claim"] = {**claim, "shown": not claim["shown"], "findings": ["made up"] if claim["shown"] else []}
        body["claim"]["numbers"] = {**claim["numbers"], "old_head_ks": claim["numbers"]["old_head_ks"] + 20}

    found = check_receipt(forged(home, flatter), source, spec, original, unsigned=True)
    words = ("shown", "not shown") if not claim["shown"] else ("not shown", "shown")
    assert f"claim: the receipt says {words[0]}, judged anew it is {words[1]}" in found
    assert any(line.startswith("claim: old_head_ks was ") for line in found)
    assert check_receipt(home / "request-1" / "receipt.json", source, spec, original, claim=False, unsigned=True) == []


def test_copies_that_stay_are_looked_for_again(home, source, spec, original):
    """Two of 30 forgotten rows have a copy in the data; whether it stays goes by the ledger and by ``rows.json``."""
    path, forget, first = home / "request-1" / "receipt.json", np.arange(30), int(source.num_train)

    def with_copies(at):
        images = source.images.copy()
        images[at] = images[:2]
        return dataclasses.replace(source, images=images)

    def share(at):
        return verification._copied(open_request(path), with_copies(at), forget)

    assert share([50, 60]) == 2 / 30
    assert share([20, 21]) == 0  # forgotten as well
    assert share([first, first + 1]) == 0  # held out
    found = check_receipt(path, with_copies([50, 60]), spec, original, unsigned=True)
    words = "claim: copies of more than 5 % of the forgotten rows stay, so what these show was not forgotten"
    assert sum(line.startswith(words) for line in found) == 1
    assert json.loads(path.read_text())["claim"]["numbers"]["copied"] == 0.0
    rows = path.parent / "rows.json"
    recorded, salt = json.loads(rows.read_text()), ledger.read_salt(home)
    recorded["held_out"]["reserve"] += ledger.salted(salt, source.ids[[50, 60]].tolist())  # cut from the training part
    rows.write_text(json.dumps(recorded))
    assert share([50, 60]) == 0


def test_a_claim_from_before_copies_counted_is_judged_by_what_it_has(home, source, spec, original):
    older = lambda body: body["claim"]["numbers"].pop("copied")  # noqa: E731
    lines = check_receipt(forged(home, older), source, spec, original, unsigned=True)
    assert not [line for line in lines if "its figures are others" in line or "copied" in line]


@pytest.mark.parametrize("claim", [{}, {"shown": True, "findings": ["no"], "numbers": {}}, {"shown": False}, 3])
def test_a_claim_that_contradicts_itself_is_no_receipts(home, claim):
    path = home / "request-1" / "receipt.json"
    body = {name: v for name, v in json.loads(path.read_text()).items() if name not in ("receipt_sha256", "signature")}
    path.write_text(receipt.receipt_text(receipt.seal_receipt(body | {"claim": claim})))
    with pytest.raises(ConfigError, match="is no receipt of schema 2"):
        open_request(path)


def test_whoever_may_not_read_the_salt_is_told_what_was_not_compared(home, monkeypatch):
    def refused(home):
        raise PermissionError

    monkeypatch.setattr(ledger, "read_salt", refused)
    (home / "request-1" / "result.json").write_text("{}")
    assert findings(home) == ["salt: it is missing or not readable, so files, models and ids cannot be compared"]


def test_a_time_in_the_ledger_that_is_not_the_receipts_is_found(home):
    """The seal of a line made anew: the receipt, which may be signed, tells of the same time."""
    [entry] = ledger.read_ledger(home)
    (home / "ledger.jsonl").unlink()
    ledger.append(home, entry._replace(time="2020-01-01T00:00:00+00:00"))
    assert findings(home) == ["ledger.jsonl: line 1 has another time than the receipt"]


def test_work_that_is_left_and_links_are_found_and_not_opened(home, tmp_path):
    folder = home / "request-1"
    shutil.copytree(folder / "model", folder / "work" / "model-0")
    [line] = findings(home)
    assert line.startswith("work: it is there: the request is not finished (the same command again does that)")
    shutil.rmtree(folder / "work")
    report = (folder / "report.html").rename(tmp_path / "elsewhere.html")
    (folder / "report.html").symlink_to(report)  # the same bytes, which whoever has the other place can change
    assert findings(home) == ["report.html: it is a link"]


@pytest.mark.parametrize("how", ["torn", "empty", "gone", "a receipt more"])
def test_what_a_ledger_lost_is_found(home, how):
    path = home / "ledger.jsonl"
    if how == "torn":
        path.write_text(path.read_text() + '{"request": {"numb')
        [line] = findings(home)
        assert line.startswith("ledger.jsonl: its last line is torn")
    elif how == "a receipt more":
        shutil.copytree(home / "request-1", home / "request-2")
        assert findings(home) == ["ledger.jsonl: it has no request-2, whose receipt is there"]
    else:
        path.unlink() if how == "gone" else path.write_text("")
        assert findings(home) == ["ledger.jsonl: it has no request 1"]


def test_a_ledger_that_lost_its_last_line_break_is_whole(home):
    (home / "ledger.jsonl").write_text((home / "ledger.jsonl").read_text().rstrip())
    assert findings(home) == []


def test_the_configuration_is_read_once(home):
    """Else another could be put there between the check of the code that it names and its use."""
    opened = open_request(home / "request-1" / "receipt.json")
    assert check_hashes(opened) == []
    (home / "request-1" / "config.json").write_text("{}")
    assert config_of(opened).model.name == "mlp:build"
    assert config_of(opened).method == config.Retrain()  # no code of a method is needed, and none is named
    (home / "request-1" / "config.json").unlink()
    with pytest.raises(ConfigError, match="has no readable config.json"):
        config_of(open_request(home / "request-1" / "receipt.json"))


def test_the_original_is_found_in_a_cache_by_its_weights_whatever_its_name(home, original, tmp_path, caplog):
    opened, cache = open_request(home / "request-1" / "receipt.json"), tmp_path / "cache"
    assert before_weights(opened, None, cache) is None
    model, other = ({"params": x, "model_state": {}, "seconds": np.float32(3)} for x in _two(original["params"]))
    for name, tree in (("original-0a", other), ("retrain-1b", model), ("original-2c.partial", model)):
        save_tree(cache / name, jax.tree.map(jax.numpy.asarray, tree), {})
    assert before_weights(opened, None, cache) is None
    save_tree(cache / "original-3d", jax.tree.map(jax.numpy.asarray, model), {})
    found = before_weights(opened, None, cache)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, dict(found["params"]), dict(original["params"]))
    # the one that the folder of requests has noted is read first, and no other
    (cache / f"original-{'0' * 20}").mkdir()
    noted = f"original-{'4e' * 10}"
    save_tree(cache / noted, jax.tree.map(jax.numpy.asarray, model), {})
    (home / "original").write_text(f"../cache/{noted}")
    caplog.clear()
    assert before_weights(opened, None, cache) is not None and not caplog.records
    shutil.rmtree(cache / noted)
    [array] = [path for path in (cache / "original-3d").rglob("d/*")][:1]
    array.write_bytes(b"")
    files = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    assert before_weights(opened, None, cache) is None  # damaged
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == files


def _two(params):
    return params, jax.tree.map(lambda x: x + 1, params)


def test_the_weights_before_a_later_request_are_those_of_the_one_before(tmp_path):
    saved = types.SimpleNamespace(number=3, folder=tmp_path / "request-3")
    assert before_weights(saved, {"params": {}}, tmp_path) is None
    for number in (1, 2, 4):
        tree = {"params": {"w": jnp.full(2, float(number))}, "model_state": {"batch_stats": {"m": jnp.ones(1)}}}
        save_tree(tmp_path / f"request-{number}" / "model", tree, {})
    found = before_weights(saved, {"params": {}}, tmp_path)
    np.testing.assert_array_equal(found["params"]["w"], [2, 2])
    assert set(found) == {"params", "batch_stats"}


@pytest.mark.slow
def test_earlier_rows_that_are_gone_are_said_too(home, source, spec, original):
    more = [str(name) for name in source.ids[30:40]]
    done = fulfil(Request(request_settings(trials=0), more, home), source, spec, original)
    left = np.arange(5, len(source.ids))
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=155
    )
    with pytest.raises(ConfigError, match="5 of the 30 earlier rows .* are no longer in the data"):
        rows_of(open_request(done.folder / "receipt.json"), smaller)


def test_a_model_before_that_is_another_one_is_found(home, source, spec, original):
    other = {"params": {name: x + 1e-3 for name, x in original["params"].items()}}
    path = home / "request-1" / "receipt.json"
    assert check_receipt(path, source, spec, other) == ["model before: it is not the one of the receipt"]
    opened = open_request(path)
    assert before_weights(opened, original, home) is original
    # the unlearned file in the place of the old one is not an altered model: the old one is gone
    after = dict(load_tree(home / "request-1" / "model")[0])
    assert before_weights(opened, {"params": after["params"]}, home) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body["request"].update(previous="a" * 64), "lines before line 1 are not those"),
        (lambda body: body.update(config_sha256="a" * 64), "config.json: it is not the configuration of the receipt"),
        (lambda body: body["model"]["after"].update(salted_sha256="a" * 64), "model: it is not the one of the receipt"),
        (lambda body: body["time"].update(finished="2020-01-01"), "line 1 has another time than the receipt"),
        (lambda body: body["request"].update(ids_sha256="a" * 64), "line 1 has other ids than the receipt"),
        (lambda body: body["request"].update(count=99), "line 1 has 30 ids, the receipt 99"),
        (lambda body: body.update(method="retrain"), "config.json: it is not the configuration of the receipt"),
    ],
)
def test_a_receipt_sealed_anew_must_still_fit_what_lies_there(home, change, message):
    assert any(message in line for line in findings_of_forged(home, change))


def test_weights_that_are_not_the_model_are_found(tmp_path, source, spec, original):
    given = tmp_path / "mine.msgpack"
    given.write_bytes(flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, original["params"])}))
    settings = dataclasses.replace(request_settings(trials=0), weights=str(given))
    done = fulfil(Request(settings, [str(n) for n in source.ids[:30]], tmp_path / "out"), source, spec, original)
    shutil.copy(given, done.folder / "weights" / "mine.msgpack")  # the old model, handed to the server again

    def covered(body):
        body["files_salted_sha256"] = hashed(done.folder)

    assert findings_of_forged(tmp_path / "out", covered) == ["weights/mine.msgpack: it is not the model of the receipt"]


def test_rows_that_are_gone_are_said(made, source):
    home = made[0]
    left = np.arange(5, len(source.ids))
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=155
    )
    with pytest.raises(ConfigError, match="5 of the 30 forget rows .* are no longer in the data; allowed: .*--hashes"):
        rows_of(open_request(home / "request-1" / "receipt.json"), smaller)
