"""Requests one after another: what is left behind, what is not, and how an interrupted one goes on."""

import dataclasses
import hashlib
import hmac
import json
import shutil

import flax.serialization
import jax
import jax.numpy as jnp
import mlp
import numpy as np
import pytest
from small_request import by_margins, request_settings

from ltu_jax import load_model
from ltu_jax.config import LTU, Training, method_config
from ltu_jax.deletion import fulfil as module
from ltu_jax.deletion import ledger, removal
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.deletion.receipt import files_salted_sha256, receipt_text
from ltu_jax.deletion.verification import check_hashes, open_request
from ltu_jax.files import LOCK, locked, partial_of
from ltu_jax.setting import ConfigError, digest
from ltu_jax.training.checkpoint import CheckpointError, load_tree, save_tree, tree_sha256
from ltu_jax.training.supervised import train
from ltu_jax.unlearning.problem import Loaded, cut, request_sha256


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
    }
    assert {path.name for path in (home / "request-2").iterdir()} == left | {"model"}  # each has it until the next
    assert {path.name for path in home.iterdir()} == {"ledger.jsonl", "salt", "request-1", "request-2"}
    result = json.loads((home / "request-1" / "result.json").read_text())
    assert result["retrain"] is None and result["attackers_fitted_on"] == "original"
    receipt = json.loads((home / "request-1" / "receipt.json").read_text())
    assert receipt["request"]["count"] == 30 and receipt["evidence"]["rows"]["forget"] == 30
    assert set(receipt["files_salted_sha256"]) >= {"config.json", "result.json", "report.html"}
    assert check_hashes(open_request(home / "request-1" / "receipt.json")) == []


def test_a_request_by_margins_fits_no_attackers_and_leaves_the_same_files(home, tmp_path, source, spec, original, ids):
    settings = by_margins(request_settings(trials=1))
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, original)
    left = {path.name for path in (home / "request-2").iterdir()}
    assert {path.name for path in done.folder.iterdir()} == left
    assert done.result["attackers"] == [] and done.result["attackers_fitted_on"] is None
    assert done.receipt["guidance"] is None and done.result["time"]["attackers_s"] == 0
    assert check_hashes(open_request(done.folder / "receipt.json")) == []


def test_few_rows_and_the_operator_stand_in_the_receipt(tmp_path, source, spec, original, ids):
    settings = by_margins(request_settings(trials=0))
    request = Request(settings, ids[:1], tmp_path / "out", operator="Example Ltd, photo sorter")
    done = fulfil(request, source, spec, original)
    assert done.receipt["warnings"][0].startswith("1 row is too few to show anything of")
    assert done.receipt["about"] == {"operator": "Example Ltd, photo sorter", "model": "mlp:build"}
    page = (done.folder / "report.html").read_text()
    assert "The operator is Example Ltd, photo sorter." in page and "1 row is too few" in page
    assert check_hashes(open_request(done.folder / "receipt.json")) == []


def test_no_file_names_anyone_who_was_forgotten(home, source, ids):
    """Neither ids nor hashes from which someone with the data could guess them: of one id, several, or row numbers."""
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


def test_what_is_handed_out_confirms_no_guess(home):
    """Whoever has data and old model, and guesses the ids, makes this model and these files: no hash of one is told.

    But that of the report, which is made of the receipt alone: see ``test_recipient``.
    """
    files = [path for path in home.rglob("*") if path.is_file() and path.name != "report.html"]
    made = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    last, about = load_tree(home / "request-2" / "model")
    made |= {tree_sha256(dict(last)), tree_sha256(last["params"]), about["tree_sha256"]}
    assert len(made) > 20
    for path in (home / "ledger.jsonl", *home.glob("request-*/receipt.json"), *home.glob("request-*/report.html")):
        text = path.read_text()
        assert not [sha256 for sha256 in made if sha256 in text], path


def test_the_second_request_starts_from_the_first_and_repeats_nothing(home, source, ids):
    first, second = (json.loads((home / f"request-{n}" / "receipt.json").read_text()) for n in (1, 2))
    assert second["model"]["before"] == first["model"]["after"]
    assert second["request"]["count"] == 10 and second["request"]["repeated"] == 10
    assert second["evidence"]["rows"]["earlier"] == 30
    tree, _ = load_tree(home / "request-2" / "model")
    salt = bytes.fromhex((home / "salt").read_text())
    named = hmac.new(salt, b"sha256\n" + tree_sha256(dict(tree)).encode(), hashlib.sha256).hexdigest()
    assert second["model"]["after"] == {"salted_sha256": named} != first["model"]["after"]
    entries = ledger.read_ledger(home)
    assert [len(entry.ids) for entry in entries] == [30, 10]
    assert [entry.receipt_sha256 for entry in entries] == [r["receipt_sha256"] for r in (first, second)]


def test_the_same_ids_again_do_nothing(home, source, spec, original, ids):
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    done = fulfil(Request(request_settings(), [*ids[5:35], ids[3]], home), source, spec, original)
    assert not done.is_new and done.number == 2 and done.repeated == 31
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


@pytest.mark.slow
def test_a_request_that_was_stopped_goes_on_to_the_same_model(tmp_path, source, spec, original, ids, home, monkeypatch):
    request = Request(request_settings(), ids[:30], tmp_path / "out")
    request.home.mkdir()
    shutil.copy(home / "salt", request.home)  # it draws the rows of the evidence

    def stopped(*args, **kwargs):
        raise InterruptedError

    for step in ("make_result", "_receipt", "seal_receipt", "files_salted_sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, stopped)
            with pytest.raises(InterruptedError):
                fulfil(request, source, spec, original)
        assert not (request.home / "ledger.jsonl").exists()
        partial_of(request.home / "request-1" / "receipt.json").write_text("{")  # stopped while it was written
        (request.home / "request-1" / "receipt.json.partial").write_text("{")  # an older version, likewise
        (request.home / "request-1" / "model.partial").mkdir()
    with pytest.raises(ConfigError, match="holds a request under way with other ids or settings"):
        fulfil(request._replace(ids=ids[:29]), source, spec, original)
    done = fulfil(request, source, spec, original)
    undisturbed = json.loads((home / "request-1" / "receipt.json").read_text())
    assert done.is_new and done.receipt["model"]["before"] == undisturbed["model"]["before"]
    salt, sha256 = ledger.read_salt(home), tree_sha256(dict(load_tree(done.folder / "model")[0]))
    assert salt and undisturbed["model"]["after"]["salted_sha256"] == ledger.salted_sha256(salt, sha256)
    assert done.receipt["evidence"] == undisturbed["evidence"]
    assert check_hashes(open_request(done.folder / "receipt.json")) == []
    assert not list(request.home.rglob("work"))
    # stopped after its line in the ledger: what is left of the work goes with the next command
    (request.home / "request-1" / "work").mkdir()
    assert not fulfil(request, source, spec, original).is_new and not list(request.home.rglob("work"))


def test_whatever_was_written_otherwise_than_it_was_meant_is_found_when_it_is_read_back(home, tmp_path):
    folder = shutil.copytree(home / "request-2", tmp_path / "request-2")
    receipt, salt = json.loads((folder / "receipt.json").read_text()), ledger.read_salt(home)
    module._read_back(folder, receipt, salt)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + (b"y" if sound.endswith(b"x") else b"x"))
        name = path.relative_to(folder).as_posix()
        with pytest.raises(CheckpointError, match=f"^read back, {name}: it was altered .* and nothing was deleted$"):
            module._read_back(folder, receipt, salt)
        path.write_bytes(sound)
    # whole in itself, but another model, which the receipt lists
    tree, about = load_tree(folder / "model")
    save_tree(folder / "model", jax.tree.map(lambda x: x + 1, tree), about)
    receipt["files_salted_sha256"] = files_salted_sha256(folder, salt)
    (folder / "receipt.json").write_text(receipt_text(receipt))
    with pytest.raises(CheckpointError, match="^read back, model: it is another model"):
        module._read_back(folder, receipt, salt)


def test_nothing_is_deleted_before_what_was_written_has_been_read_back(tmp_path, source, spec, ids, monkeypatch):
    settings = request_settings(trials=0)
    request, cache = Request(settings, ids[:30], tmp_path / "out"), tmp_path / "cache"

    def harm(folder):
        path = max((folder / "model").rglob("d/*"), key=lambda path: path.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1])

    with monkeypatch.context() as patch:
        patch.setattr(module, "sync_tree", harm)
        with pytest.raises(CheckpointError, match="read back, model/.*: it was altered"):
            fulfil(request, source, spec, cache=cache)
    monkeypatch.setattr(removal, "shown_in", lambda folder: True)
    assert not ledger.read_ledger(request.home) and list(cache.glob("original-*"))
    done = fulfil(request, source, spec, cache=cache)
    assert done.is_new and not list(cache.glob("original-*"))
    assert check_hashes(open_request(done.folder / "receipt.json")) == []


def test_a_request_goes_on_from_what_a_power_cut_emptied_but_not_with_other_ids(tmp_path, source, spec, original, ids):
    request, folder = Request(request_settings(trials=0), ids[:30], tmp_path / "out"), tmp_path / "out" / "request-1"
    todo = module.plan(request, source, original)
    request.home.mkdir()
    module._begin(request, todo, folder)
    for name in ("config.json", "work/ids"):
        before = (folder / name).read_text()
        for left in ("", before[: len(before) // 2]) if name == "config.json" else ("",):
            (folder / name).write_text(left)
            module._begin(request, todo, folder)
            assert (folder / name).read_text() == before
    with pytest.raises(ConfigError, match="holds a request under way with other ids or settings"):
        module._begin(request, todo._replace(ids=ids[:29]), folder)


def test_a_folder_that_orbax_takes_for_a_pattern_is_refused_before_anything_is_made(tmp_path, source, spec, ids):
    for home, cache in ((tmp_path / "[v2]", tmp_path / "cache"), (tmp_path / "out", tmp_path / "a*b")):
        with pytest.raises(ConfigError, match="which Orbax takes for a pattern"):
            fulfil(Request(request_settings(), ids[:30], home), source, spec, cache=cache)
    assert not list(tmp_path.iterdir())


def test_without_calibration_the_methods_own_settings_are_run(tmp_path, source, spec, original, ids):
    settings = request_settings(trials=0)
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, original)
    assert done.receipt["calibration"] is None and done.result["steps"]["taken"] == round(6 * 30 / 8)
    assert not (done.folder / "calibration.json").exists()


def test_a_request_that_is_not_calibrated_is_saved_in_its_own_folder(
    tmp_path, source, spec, original, ids, monkeypatch
):
    folders = []

    def stopped(problem, *, folder, progress):
        folders.append(folder)
        raise InterruptedError

    monkeypatch.setattr(module, "run_problem", stopped)
    with pytest.raises(InterruptedError):
        fulfil(Request(request_settings(trials=0), ids[:30], tmp_path / "out"), source, spec, original)
    assert folders == [tmp_path / "out" / "request-1" / "work"]


@pytest.mark.slow
def test_given_weights_come_back_in_their_form(tmp_path, source, spec, original, ids):
    given = tmp_path / "mine.msgpack"
    given.write_bytes(flax.serialization.msgpack_serialize({"params": jax.tree.map(np.asarray, original["params"])}))
    settings = dataclasses.replace(request_settings(), weights=str(given))
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, original)
    back = flax.serialization.msgpack_restore((done.folder / "weights" / "mine.msgpack").read_bytes())
    tree, _ = load_tree(done.folder / "model")
    jax.tree.map(np.testing.assert_array_equal, back["params"], dict(tree["params"]))
    assert done.receipt["model"]["before"]["file_sha256"]
    assert "weights/mine.msgpack" in done.receipt["files_salted_sha256"]


@pytest.mark.parametrize("how", ["torn", "empty", "gone", "short of its line break"])
def test_a_ledger_that_lost_its_end_is_mended_by_the_same_request(home, tmp_path, source, spec, original, ids, how):
    copy = shutil.copytree(home, tmp_path / "out")
    path = copy / "ledger.jsonl"
    whole = path.read_bytes()
    if how == "torn":
        path.write_bytes(whole[: len(whole) - 500])
    elif how == "short of its line break":
        path.write_bytes(whole[:-1])
    else:
        path.unlink() if how == "gone" else path.write_bytes(b"")
    if how != "short of its line break":
        with pytest.raises(
            ledger.LedgerError, match="has no whole line of request [12], which is done: it lost its end"
        ):
            fulfil(Request(request_settings(), ids[50:60], copy), source, spec, original)
        assert not path.exists() or path.read_bytes() != whole
    models = {file: file.read_bytes() for file in copy.glob("request-*/model/**/*") if file.is_file()}
    for asked in (ids[:30], ids[20:40]):
        assert not fulfil(Request(request_settings(), asked, copy), source, spec, original).is_new
    if how == "short of its line break":
        assert path.read_bytes() == whole[:-1]  # the next line puts it back: test_ledger
    else:
        assert path.read_bytes() == whole
    assert check_hashes(open_request(copy / "request-2" / "receipt.json")) == []
    assert {file: file.read_bytes() for file in copy.glob("request-*/model/**/*") if file.is_file()} == models


def test_a_line_torn_while_it_was_written_is_written_anew(tmp_path, source, spec, original, ids, monkeypatch):
    request = Request(request_settings(trials=0), ids[:30], tmp_path / "out")

    def torn(home, entry):
        (home / "ledger.jsonl").write_text('{"request": {"numb')
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", torn)
        with pytest.raises(InterruptedError):
            fulfil(request, source, spec, original)
    done = fulfil(request, source, spec, original)
    assert done.is_new and [entry.number for entry in ledger.read_ledger(request.home)] == [1]
    assert check_hashes(open_request(done.folder / "receipt.json")) == []


def as_of_schema_1(home):
    """What the version before left of one request: plain hashes, keys in another order, another signature."""
    path = home / "request-1" / "receipt.json"
    receipt = json.loads(path.read_text())
    files = {p.relative_to(path.parent).as_posix(): p for p in path.parent.rglob("*") if p.is_file() and p != path}
    del receipt["files_salted_sha256"], receipt["receipt_sha256"], receipt["signature"]
    receipt["schema"], receipt["files"] = 1, {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}
    after = tree_sha256(dict(load_tree(home / "request-1" / "model")[0]))
    receipt["model"]["after"] = {"tree_sha256": after}
    sha256 = digest(receipt)
    path.write_text(json.dumps({**receipt, "receipt_sha256": sha256, "signature": None}, indent=2) + "\n")
    [entry] = ledger.read_ledger(home)
    (home / "ledger.jsonl").unlink()
    ledger.append(home, entry._replace(receipt_sha256=sha256, model_sha256=after))


def test_a_folder_whose_first_receipt_is_of_schema_1_goes_on(tmp_path, source, spec, original, ids):
    settings, home = request_settings(trials=0), tmp_path / "out"
    fulfil(Request(settings, ids[:30], home), source, spec, original)
    as_of_schema_1(home)
    with pytest.raises(ConfigError, match="is of schema 1"):
        open_request(home / "request-1" / "receipt.json")
    assert not fulfil(Request(settings, ids[:30], home), source, spec, original).is_new
    other = {"params": {name: x + 1 for name, x in original["params"].items()}}
    with pytest.raises(ConfigError, match="they are those of another model"):
        fulfil(Request(settings, ids[30:40], home), source, spec, other)
    done = fulfil(Request(settings, ids[30:40], home), source, spec, original)
    assert done.number == 2 and done.receipt["schema"] == 2
    assert check_hashes(open_request(done.folder / "receipt.json")) == []


def test_a_ledger_without_its_salt_is_refused(home, tmp_path, source, spec, original, ids):
    shutil.copytree(home, tmp_path / "out")
    (tmp_path / "out" / "salt").unlink()
    with pytest.raises(ledger.LedgerError, match="salt is missing"):
        fulfil(Request(request_settings(), ids[60:70], tmp_path / "out"), source, spec, original)


def test_a_model_that_is_not_the_ledgers_is_no_start(home, tmp_path, source, spec, original, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    tree, about = load_tree(copy / "request-2" / "model")
    save_tree(copy / "request-2" / "model", jax.tree.map(lambda x: x + 1, tree), about)
    with pytest.raises(ledger.LedgerError, match="is not the model that request 2 left"):
        fulfil(Request(request_settings(), ids[60:70], copy), source, spec, original)


def test_a_second_process_is_kept_out_and_a_lock_that_was_left_is_not_in_the_way(tmp_path, source, spec, original, ids):
    request = Request(request_settings(trials=0), ids[:30], tmp_path / "out")
    with locked(request.home / LOCK):
        with pytest.raises(ConfigError, match="is in use by another process"):
            fulfil(request, source, spec, original)
    (request.home / LOCK).touch()
    assert fulfil(request, source, spec, original).is_new and not (request.home / LOCK).exists()


@pytest.mark.slow
def test_weights_in_half_precision_are_measured_as_they_are_written(tmp_path, source, spec, original, ids):
    given = tmp_path / "mine.msgpack"
    half = jax.tree.map(lambda x: np.asarray(x, np.float16), original["params"])
    given.write_bytes(flax.serialization.msgpack_serialize({"params": half}))
    settings = dataclasses.replace(request_settings(trials=0), weights=str(given))
    start = {"params": jax.tree.map(lambda x: np.asarray(x, np.float32), half)}
    done = fulfil(Request(settings, ids[:30], tmp_path / "out"), source, spec, start)
    back = flax.serialization.msgpack_restore((done.folder / "weights" / "mine.msgpack").read_bytes())["params"]
    saved = dict(load_tree(done.folder / "model")[0])["params"]
    assert all(x.dtype == np.float16 for x in jax.tree.leaves(back))
    jax.tree.map(lambda b, s: np.testing.assert_array_equal(b.astype(np.float32), s), back, dict(saved))
    model = load_model(done.folder)
    logits, _ = model.apply_fn(model.params, {}, jnp.asarray(source.images[:9] / np.float32(255)), train=False)
    np.testing.assert_array_equal(np.asarray(model.params["w1"]), back["w1"].astype(np.float32))
    assert logits.shape == (9, 4)
    # the first file may go: the next request takes its form from the last one's
    given.unlink()
    more = fulfil(Request(settings, ids[30:40], tmp_path / "out"), source, spec)
    assert (more.folder / "weights" / "mine.msgpack").exists()
    # and it was not what that request started from
    assert done.receipt["about"]["model"] == "mlp:build, mine.msgpack" and more.receipt["about"]["model"] == "mlp:build"
    assert check_hashes(open_request(more.folder / "receipt.json")) == []


@pytest.mark.slow
def test_what_is_handed_out_says_nothing_finer_than_a_row(tmp_path, source, spec, original, ids):
    """The search knows more digits, and keeps them in its own file."""
    done = fulfil(Request(request_settings(), ids[:8], tmp_path / "out"), source, spec, original)
    curve = json.loads((done.folder / "calibration.json").read_text())
    trial = curve["trials"][curve["chosen"]]
    unlike = trial["looks"][trial["best"]]["ks"]
    assert unlike % 12.5 > 1e-3  # else the test says nothing
    assert f"({round(unlike / 12.5) * 12.5:.1f} points apart" in done.receipt["calibration"]
    report = (done.folder / "report.html").read_text()
    assert f"{unlike:.1f} points apart" not in report and f">{unlike:.1f}<" not in report


@pytest.mark.slow
def test_whether_the_remaining_rows_measured_were_seen_is_told(tmp_path, source, spec, original, ids):
    """LTU sees the sample and others are measured; Retrain sees all of them, whatever the sample is."""
    for name, seen in (("ltu", False), ("retrain", True)):
        settings = request_settings(trials=0)
        data = dataclasses.replace(settings.data, remain_fraction=0.2)
        method = settings.method if name == "ltu" else method_config(name)
        recipe = dataclasses.replace(settings.training, epochs=1)
        settings = dataclasses.replace(settings, data=data, method=method, training=recipe)
        done = fulfil(Request(settings, ids[:20], tmp_path / name), source, spec, original)
        assert done.receipt["remain_seen"] is seen and done.receipt["evidence"]["rows"]["remain"] == 112
        assert ("none of those measured here was in use" in (done.folder / "report.html").read_text()) is not seen


def memorised():
    """Rows of which six of ten have a random label, all known by heart by a model without a head of its own."""
    toy = mlp.toy_source(num_rows=300, num_test=300)
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(600) < 0.6, rng.integers(0, 4, 600), toy.labels).astype(np.int32)
    source, plain = dataclasses.replace(toy, labels=labels), mlp.build(None, 4, toy.images.shape[1:])
    mixed = jnp.asarray(np.random.default_rng(5).normal(size=(4, 4)), jnp.float32)  # each weight moves every logit

    def apply_fn(params, model_state, images, train):
        logits, model_state = plain.apply_fn(params, model_state, images, train)
        return logits @ mixed, model_state

    spec = plain._replace(apply_fn=apply_fn)
    recipe = Training(epochs=400, batch_size=40, learning_rate=0.1, weight_decay=0.0)
    params, model_state = spec.init(jax.random.key(0))
    state = train(apply_fn, params, model_state, source.rows(np.arange(300)), recipe, jax.random.key(1)).state
    return source, spec, {"params": jax.tree.map(np.asarray, state.params)}


def test_a_request_that_forgets_is_shown_and_one_that_hardly_does_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(mlp, "WIDTH", 64)
    source, spec, original = memorised()
    for rate, shown in ((0.01, True), (0.0001, False)):
        # Each request draws other held-out rows: over 16 draws KS is 17 to 23 points, of 29 allowed.
        method = LTU(learning_rate=rate, epochs=40.0, batch_size=20, query_size=20, num_queries=1)
        settings = dataclasses.replace(request_settings(trials=1), method=method)
        home = tmp_path / str(rate)
        done = fulfil(Request(settings, [str(name) for name in source.ids[:60]], home), source, spec, original)
        claim = done.receipt["claim"]
        assert claim["shown"] is shown and bool(claim["findings"]) is not shown
        assert list(done.not_shown) == ([] if shown else [1])
        assert claim["numbers"]["auc_before"] > 0.8 and (claim["numbers"]["auc"] < 0.65) is shown
        page = " ".join((done.folder / "report.html").read_text().split())
        assert ("it passed:" in page, "<strong>No, it is not shown.</strong>" in page) == (shown, not shown)
