"""Requests one after another: what is left behind, what is not, and how an interrupted one goes on."""

import dataclasses
import hashlib
import json
import shutil

import flax.serialization
import jax
import numpy as np
import pytest
from asked import request_settings

from ltu_jax.config import method_config
from ltu_jax.data.splits import make_splits
from ltu_jax.requests import fulfil as module
from ltu_jax.requests import ledger
from ltu_jax.requests.fulfil import Fulfilled, Request, fulfil, plan
from ltu_jax.requests.verification import check_hashes, open_home
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.checkpoint import load, tree_sha256
from ltu_jax.unlearning.problem import Loaded, cut, request_sha256


@pytest.fixture(scope="module")
def ids(source):
    return [str(name) for name in source.ids]


@pytest.fixture(scope="module")
def home(tmp_path_factory, source, spec, original, ids):
    """Two requests: rows 0..29, and rows 20..39, of which ten are repeated."""
    home = tmp_path_factory.mktemp("requests") / "out"
    for asked in (ids[:30], ids[20:40]):
        fulfil(Request(request_settings(), asked, home), source, spec, original)
    return home


def test_a_request_leaves_everything_that_is_promised(home):
    left = {path.name for path in (home / "request-1").iterdir()}
    assert left == {
        "receipt.json",
        "result.json",
        "report.html",
        "metrics.jsonl",
        "calibration.json",
        "config.json",
        "rows.json",
        "model",
    }
    assert {path.name for path in home.iterdir()} == {"ledger.jsonl", "salt", "lock", "request-1", "request-2"}
    result = json.loads((home / "request-1" / "result.json").read_text())
    assert result["retrain"] is None and result["attackers_fitted_on"] == "original"
    receipt = json.loads((home / "request-1" / "receipt.json").read_text())
    assert receipt["request"]["count"] == 30 and receipt["evidence"]["rows"]["forget"] == 30
    assert set(receipt["files"]) >= {"config.json", "result.json", "report.html"}
    assert check_hashes(open_home(home / "request-1" / "receipt.json")) == []


def test_no_file_names_anyone_who_was_forgotten(home, source, ids):
    """Neither ids, nor hashes that whoever has the data could try them on: of one id, of some, of their places."""
    settings, guesses = request_settings(), set(ids[:40])
    for asked in (ids[:30], ids[30:40]):
        splits = cut(settings, source, asked)
        loaded = Loaded(source, splits, None)
        guesses |= {splits.sha256(), digest(asked), digest(sorted(asked)), digest(splits.forget.tolist())}
        guesses |= {request_sha256(settings, loaded), "\n".join(asked), str(splits.forget.tolist())}
        guesses |= {ledger.ids_sha256(asked), ledger.ids_sha256(ledger.salted(b"", asked))}
    for name in ids[:40]:
        guesses |= {hashlib.new(kind, name.encode()).hexdigest() for kind in ("md5", "sha1", "sha256", "sha512")}
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        raw = path.read_bytes()
        for guess in guesses:
            assert guess.encode() not in raw, path


def test_the_second_request_starts_from_the_first_and_repeats_nothing(home, source, ids):
    first, second = (json.loads((home / f"request-{n}" / "receipt.json").read_text()) for n in (1, 2))
    assert second["model"]["before"]["tree_sha256"] == first["model"]["after"]["tree_sha256"]
    assert second["request"]["count"] == 10 and second["request"]["repeated"] == 10
    assert second["evidence"]["rows"]["earlier"] == 30
    tree, _ = load(home / "request-2" / "model")
    assert tree_sha256(dict(tree)) == second["model"]["after"]["tree_sha256"] != first["model"]["after"]["tree_sha256"]
    entries = ledger.read_ledger(home)
    assert [len(entry.ids) for entry in entries] == [30, 10]
    assert [entry.receipt_sha256 for entry in entries] == [r["receipt_sha256"] for r in (first, second)]


def test_rows_of_earlier_requests_stay_out_of_what_remains(home, source, ids):
    todo = plan(Request(request_settings(), ids[50:60], home), source)
    assert isinstance(todo, module.Plan)
    np.testing.assert_array_equal(todo.earlier, np.arange(40))
    np.testing.assert_array_equal(todo.splits.forget, np.arange(50, 60))
    assert not np.isin(todo.splits.remain, np.arange(40)).any() and len(todo.splits.remain) == 160 - 50


def test_the_same_ids_again_do_nothing(home, source, spec, original, ids):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    done = fulfil(Request(request_settings(), [*ids[5:35], ids[3]], home), source, spec, original)
    assert not done.is_new and done.number == 2 and done.repeated == 31
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_ids_forgotten_before_need_no_longer_be_in_the_data(home, source, ids):
    """Who deletes the rows as well, as one should, can repeat a request all the same."""
    gone = np.arange(len(source.ids)) >= 40
    smaller = dataclasses.replace(
        source, images=source.images[gone], labels=source.labels[gone], ids=source.ids[gone], num_train=120
    )
    assert isinstance(plan(Request(request_settings(), ids[:40], home), smaller), Fulfilled)
    todo = plan(Request(request_settings(), [*ids[:3], ids[70]], home), smaller)
    assert isinstance(todo, module.Plan) and todo.ids == [ids[70]] and not len(todo.earlier)


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path, source, spec, original, ids):
    home, settings = tmp_path / "out", request_settings()
    (tmp_path / "bad.pem").write_text("no key")
    for request, said in (
        (Request(settings, [ids[0], "nobody"], home), "--forget: 1 of 2 ids are not in the training set: 'nobody'"),
        (Request(settings, [ids[0], ids[165]], home), "'toy_0165' (held out)"),
        (Request(settings, ids[:160], home), "all training rows are to be forgotten"),
        (Request(settings, ids[:3], home, key=tmp_path / "bad.pem"), "--sign"),
        (Request(_without_rate(settings), ids[:3], home), "has no learning rate to look for"),
        (
            Request(_sized(settings), ids[:3], home),
            "config.data.train_size: 100, and which rows those are would change",
        ),
        (Request(_recorded(settings), ids[:3], home), "config.method.name: 'amnesiac' needs to have recorded"),
        (Request(_auto(settings), ids[:3], home), "nothing says which rows the weights never saw"),
        (Request(_scored(settings), ids[:3], home), "config.eval_every: 2 needs validation rows"),
    ):
        data = _trained(source) if request.config.data.held_out == "auto" else source
        with pytest.raises(ConfigError) as caught:
            fulfil(request, data, spec, original)
        assert said in str(caught.value)
        assert not home.exists()


def _sized(settings):
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, train_size=100))


def _recorded(settings):
    return dataclasses.replace(settings, method=method_config("amnesiac"))


def _auto(settings):
    return dataclasses.replace(settings, weights="a.pth", data=dataclasses.replace(settings.data, held_out="auto"))


def _scored(settings):
    data = dataclasses.replace(settings.data, held_out="train", validation_fraction=0.0)
    calibration = dataclasses.replace(settings.calibration, trials=0)
    return dataclasses.replace(settings, data=data, calibration=calibration, eval_every=2)


def _trained(source):
    """Rows that the model was trained on, and no others."""
    rows = np.arange(source.num_train)
    return dataclasses.replace(source, images=source.images[rows], labels=source.labels[rows], ids=source.ids[rows])


def _without_rate(settings):
    from ltu_jax.config import SSD

    return dataclasses.replace(settings, method=SSD())


def test_a_request_that_was_stopped_goes_on_to_the_same_model(tmp_path, source, spec, original, ids, home, monkeypatch):
    request = Request(request_settings(), ids[:30], tmp_path / "out")

    def stopped(*args, **kwargs):
        raise InterruptedError

    for step in ("make_result", "_receipt", "seal", "files_sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, stopped)
            with pytest.raises(InterruptedError):
                fulfil(request, source, spec, original)
        assert not (request.home / "ledger.jsonl").exists()
        (request.home / "request-1" / "receipt.json.partial").write_text("{")  # stopped while it was written
    with pytest.raises(ConfigError, match="holds a request under way with other ids or settings"):
        fulfil(request._replace(ids=ids[:29]), source, spec, original)
    done = fulfil(request, source, spec, original)
    undisturbed = json.loads((home / "request-1" / "receipt.json").read_text())
    assert done.is_new and done.receipt["model"] == undisturbed["model"]
    assert done.receipt["evidence"] == undisturbed["evidence"]
    assert check_hashes(open_home(done.folder / "receipt.json")) == []
    assert not list(request.home.rglob("work"))
    # stopped after its line in the ledger: what is left of the work goes with the next command
    (request.home / "request-1" / "work").mkdir()
    assert not fulfil(request, source, spec, original).is_new and not list(request.home.rglob("work"))


def test_without_calibration_the_methods_own_settings_are_run(tmp_path, source, spec, original, ids):
    settings = request_settings(trials=0)
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, original)
    assert done.receipt["calibration"] is None and done.result["steps"]["taken"] == round(6 * 30 / 8)
    assert not (done.folder / "calibration.json").exists()


def test_given_weights_come_back_in_their_form(tmp_path, source, spec, original, ids):
    given = tmp_path / "mine.msgpack"
    given.write_bytes(flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, original["params"])}))
    settings = dataclasses.replace(request_settings(), weights=str(given))
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, original)
    back = flax.serialization.msgpack_restore((done.folder / "weights" / "mine.msgpack").read_bytes())
    tree, _ = load(done.folder / "model")
    jax.tree.map(np.testing.assert_array_equal, back["params"], dict(tree["params"]))
    assert done.receipt["model"]["before"]["file_sha256"] and "weights/mine.msgpack" in done.receipt["files"]


def test_a_ledger_without_its_salt_is_refused(home, tmp_path, source, spec, original, ids):
    shutil.copytree(home, tmp_path / "out")
    (tmp_path / "out" / "salt").unlink()
    with pytest.raises(ledger.LedgerError, match="salt is missing"):
        fulfil(Request(request_settings(), ids[60:70], tmp_path / "out"), source, spec, original)


def test_a_later_request_is_on_the_same_model_and_the_same_held_out_rows(home, source, spec, original, ids):
    settings = request_settings()
    for changed, said in (
        (dataclasses.replace(settings, seeds=dataclasses.replace(settings.seeds, split=7)), "config.seeds.split: 7"),
        (
            dataclasses.replace(settings, data=dataclasses.replace(settings.data, test_size=50)),
            "config.data.test_size: 50",
        ),
        (dataclasses.replace(settings, model=dataclasses.replace(settings.model, width=8)), "config.model.width: 8"),
    ):
        with pytest.raises(ConfigError, match=f"{said} where .*request-2 had .*; allowed: the same"):
            plan(Request(changed, ids[50:60], home), source)
    moved = dataclasses.replace(settings, data=dataclasses.replace(settings.data, data_dir="new", remain_fraction=0.5))
    assert isinstance(plan(Request(moved, ids[50:60], home), source), module.Plan)


def test_a_request_on_another_models_weights_is_refused(home, source, spec, original, ids):
    """Whoever retrained the model and forgot to begin a new folder."""
    retrained = {"params": jax.tree.map(lambda x: x + 1, original["params"])}
    with pytest.raises(ConfigError, match="config.weights: they are those of another model than"):
        plan(Request(request_settings(), ids[50:60], home), source, retrained)
    last = dict(load(home / "request-2" / "model")[0])
    for known in (original, {"params": last["params"]}, None):
        assert isinstance(plan(Request(request_settings(), ids[50:60], home), source, known), module.Plan)


def test_held_out_rows_stay_so_whatever_else_is_deleted(home, source, ids):
    """With the images that were forgotten gone, the places of all others have moved."""
    left = np.r_[40:260]  # of 280
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=120
    )
    whole, now = (plan(Request(request_settings(), ids[50:60], home), data) for data in (source, smaller))
    for part in ("validation", "test", "reserve", "remain"):
        before = set(source.ids[getattr(whole.splits, part)]) & set(smaller.ids)
        assert set(smaller.ids[getattr(now.splits, part)]) == before and before, part


def test_rows_that_changed_sides_are_refused(home, source, ids):
    request = Request(request_settings(), ids[50:60], home)
    moved = dataclasses.replace(source, num_train=165)  # five held-out rows are among those trained on now
    with pytest.raises(ConfigError, match="config.data: 5 rows that were held out count as trained on now"):
        plan(request, moved)
    back = np.r_[5:280, 0:5]  # rows that were forgotten, put among those held out
    moved = dataclasses.replace(
        source, images=source.images[back], labels=source.labels[back], ids=source.ids[back], num_train=155
    )
    with pytest.raises(ConfigError, match="config.data: 5 rows that earlier requests forgot count as held out now"):
        plan(request, moved)


def test_where_held_out_rows_are_cut_from_the_training_part_the_data_may_not_change(
    tmp_path, source, spec, original, ids
):
    settings = request_settings(trials=0)
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, held_out="train"))
    request = Request(settings, [], tmp_path / "out")
    trained = make_splits(source, dataclasses.replace(settings.data, forget_kind="random"), 0).train
    asked, more = ([str(name) for name in source.ids[rows]] for rows in (trained[:10], trained[20:30]))
    fulfil(request._replace(ids=asked), source, spec, original)
    assert isinstance(plan(request._replace(ids=more), source), module.Plan)
    left = ~np.isin(source.ids, asked)
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=150
    )
    with pytest.raises(ConfigError, match="config.data: .* rows that .* now; allowed: the same rows"):
        plan(request._replace(ids=more), smaller)


def test_a_model_that_is_not_the_ledgers_is_no_start(home, tmp_path, source, spec, original, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    shutil.rmtree(copy / "request-2" / "model")
    shutil.copytree(copy / "request-1" / "model", copy / "request-2" / "model")
    with pytest.raises(ledger.LedgerError, match="is not the model that request 2 left"):
        fulfil(Request(request_settings(), ids[60:70], copy), source, spec, original)


def test_a_ledger_that_lost_its_last_line_is_not_gone_on_with(home, tmp_path, source, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    lines = (copy / "ledger.jsonl").read_text().splitlines()
    (copy / "ledger.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(ledger.LedgerError, match="has no request 2, whose receipt is there"):
        plan(Request(request_settings(), ids[60:70], copy), source)


def test_folders_that_were_put_away_are_asked_for_in_one_line(home, tmp_path, source, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    shutil.rmtree(copy / "request-1")
    with pytest.raises(ConfigError, match="request-1/receipt.json.* cannot be read; allowed: a folder with all"):
        plan(Request(request_settings(), ids[:3], copy), source)
    assert isinstance(plan(Request(request_settings(), ids[60:70], copy), source), module.Plan)  # needs the last alone
    shutil.rmtree(copy / "request-2")
    with pytest.raises(ConfigError, match="request-2/model.* is not there"):
        plan(Request(request_settings(), ids[60:70], copy), source)


def test_a_second_process_is_kept_out_and_a_lock_that_was_left_is_not_in_the_way(tmp_path, source, spec, original, ids):
    request = Request(request_settings(trials=0), ids[:30], tmp_path / "out")
    with module.locked(request.home):
        with pytest.raises(ConfigError, match="is in use by another process"):
            fulfil(request, source, spec, original)
    assert (request.home / "lock").exists() and fulfil(request, source, spec, original).is_new


def test_weights_in_half_precision_are_measured_as_they_are_written(tmp_path, source, spec, original, ids):
    given = tmp_path / "mine.msgpack"
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), original["params"])
    given.write_bytes(flax.serialization.msgpack_serialize({"params": half}))
    settings = dataclasses.replace(request_settings(trials=0), weights=str(given))
    start = {"params": jax.tree.map(lambda x: np.asarray(x, np.float32), half)}
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, start)
    back = flax.serialization.msgpack_restore((done.folder / "weights" / "mine.msgpack").read_bytes())["params"]
    saved = dict(load(done.folder / "model")[0])["params"]
    assert all(x.dtype == np.float16 for x in jax.tree.leaves(back))
    jax.tree.map(lambda b, s: np.testing.assert_array_equal(b.astype(np.float32), s), back, dict(saved))
    # the first file may go: the next request takes its form from the last one's
    given.unlink()
    more = fulfil(Request(settings, ids[30:40], tmp_path / "out"), source, spec)
    assert (more.folder / "weights" / "mine.msgpack").exists()
    assert check_hashes(open_home(more.folder / "receipt.json")) == []


def test_a_weights_file_that_is_not_there_is_found_before_the_run(home, source, ids):
    settings = dataclasses.replace(request_settings(), weights="none.msgpack")
    with pytest.raises(ConfigError, match="config.weights: 'none.msgpack' is not there; allowed: a file, or unset"):
        plan(Request(settings, ids[50:60], home), source)


def test_what_is_handed_out_says_nothing_finer_than_a_row(tmp_path, source, spec, original, ids):
    """The search knows more digits, and keeps them in its own file."""
    done = fulfil(Request(request_settings(), ids[:8], tmp_path / "out"), source, spec, original)
    curve = json.loads((done.folder / "calibration.json").read_text())
    trial = curve["trials"][curve["chosen"]]
    unlike = trial["looks"][trial["best"]]["unlike"]
    assert unlike % 12.5 > 1e-3  # else the test says nothing
    assert f"({round(unlike / 12.5) * 12.5:.1f} points apart" in done.receipt["calibration"]
    report = (done.folder / "report.html").read_text()
    assert f"{unlike:.1f} points apart" not in report and f">{unlike:.1f}<" not in report
