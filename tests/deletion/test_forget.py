"""``ltu_jax.forget`` does what the command does."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from small_request import request_settings

import ltu_jax
from ltu_jax import verify
from ltu_jax.config import METHOD_CONFIGS
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree
from ltu_jax.types import silent


@pytest.fixture(scope="module")
def ids(source):
    return [str(name) for name in source.ids[:30]]


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory, source, spec, original, ids):
    home = tmp_path_factory.mktemp("forget") / "out"
    return ltu_jax.forget(spec, original["params"], source, ids, workdir=home, config=request_settings())


@pytest.mark.slow
def test_it_is_the_same_request(forgotten, tmp_path, source, spec, original, ids):
    (tmp_path / "out").mkdir()
    shutil.copy(forgotten.folder.parent / "salt", tmp_path / "out")  # it draws the rows of the evidence
    done = fulfil(Request(request_settings(), ids, tmp_path / "out"), source, spec, original)
    assert forgotten.receipt["model"]["before"] == done.receipt["model"]["before"]
    one, two = (load_tree(folder / "model")[0] for folder in (forgotten.folder, done.folder))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert forgotten.receipt["evidence"] == done.receipt["evidence"]
    assert forgotten.is_new and forgotten.folder.name == "request-1"


def test_whether_forgetting_is_shown_is_what_the_receipt_says(forgotten):
    assert forgotten.shown is forgotten.receipt["claim"]["shown"]
    assert forgotten.receipt["about"] == {"operator": None, "model": None}  # the caller's own model has no name here


def test_the_parameters_are_those_saved_and_not_those_given(forgotten, original):
    assert jax.tree.structure(dict(forgotten.params)) == jax.tree.structure(original["params"])
    assert not np.array_equal(forgotten.params["w1"], original["params"]["w1"])


def test_again_it_says_that_it_was_done(forgotten, source, spec, original, ids):
    again = ltu_jax.forget(
        spec, original["params"], source, ids[:10], workdir=forgotten.folder.parent, config=request_settings()
    )
    assert not again.is_new
    jax.tree.map(np.testing.assert_array_equal, dict(again.params), dict(forgotten.params))


@pytest.mark.slow
def test_ids_of_an_earlier_request_give_the_last_model_and_not_the_earlier_one(
    forgotten, tmp_path, source, spec, original, ids
):
    home = shutil.copytree(forgotten.folder.parent, tmp_path / "out")
    more = [str(name) for name in source.ids[30:40]]
    second = ltu_jax.forget(spec, original["params"], source, more, workdir=home, config=request_settings(trials=0))
    again = ltu_jax.forget(spec, original["params"], source, ids, workdir=home, config=request_settings(trials=0))
    assert not again.is_new and again.folder.name == "request-1"
    jax.tree.map(np.testing.assert_array_equal, dict(again.params), dict(second.params))


@pytest.mark.slow
def test_a_bare_apply_function_will_do(tmp_path, source, spec, original, ids):
    """Without features near rows are found by logits, so the model is another one."""
    found = ltu_jax.forget(
        spec.apply_fn, original["params"], source, ids, workdir=tmp_path / "out", config=request_settings(trials=0)
    )
    assert found.is_new and found.receipt["request"]["count"] == 30


@pytest.fixture
def compiling():
    """The names of the programs that are compiled."""
    names = []

    def listen(event, start_time, end_time, **more):
        if event.endswith("backend_compile_duration"):
            names.append(more.get("fun_name"))

    jax.monitoring.register_event_time_span_listener(listen)
    yield names
    jax.monitoring.unregister_event_time_span_listener(listen)


def test_the_same_function_again_compiles_nothing_anew(tmp_path, source, spec, original, ids, compiling):
    """Each call took 720 maps of memory: its model was another one for the compiler."""
    compiled = []
    for name in "abc":
        config = request_settings(trials=0)
        ltu_jax.forget(spec.apply_fn, original["params"], source, ids[:8], workdir=tmp_path / name, config=config)
        compiled.append(len(compiling))
    assert 0 < compiled[0] and compiled[1] == compiled[2], compiling[compiled[0] :]


def test_its_receipt_is_checked_with_the_same_model_and_data(forgotten, source, spec, original):
    path = forgotten.folder / "receipt.json"
    assert ltu_jax.check_receipt(path, source, spec, original, claim=False, unsigned=True) == []


@pytest.fixture
def handed_on(forgotten, tmp_path):
    return shutil.copytree(forgotten.folder.parent, tmp_path / "out") / "request-1" / "receipt.json"


def test_its_receipt_is_verified_by_the_commands_that_the_page_prints(handed_on, monkeypatch, capsys):
    """Data and model are the caller's: a command computes no evidence, says so, and checks all the rest."""
    assert verify.main([str(handed_on), "--unsigned"]) == 0
    printed = capsys.readouterr()
    said = "; the receipt says that forgetting is NOT SHOWN (not judged anew)\n"
    assert printed.out == "consistent (nobody vouches for it): hashes of request 1, 30 rows" + said
    assert "not the evidence; ltu_jax.check_receipt(RECEIPT, source, model, before) computes it anew" in printed.err
    with pytest.raises(
        ConfigError, match="--evidence: the request was made by ltu_jax.forget.*in Python ltu_jax.check"
    ):
        verify.main([str(handed_on), "--evidence", "--unsigned"])
    assert verify.main([str(handed_on), "--report", str(handed_on.with_name("report.html")), "--unsigned"]) == 0
    (handed_on.parent / "result.json").write_text("{}")
    assert verify.main([str(handed_on), "--unsigned"]) == 1


def test_who_has_an_image_of_it_finds_it_by_a_token(handed_on, tmp_path, source, ids, capsys):
    (tmp_path / "ids.txt").write_text(f"{ids[3]}\n")
    words = [str(handed_on), "--forget", str(tmp_path / "ids.txt"), "--tokens", str(tmp_path / "tokens")]
    assert verify.main(words) == 0 and "1 of them have no hash of the image" in capsys.readouterr().out
    [token] = (tmp_path / "tokens").iterdir()
    for row, status in ((3, 0), (4, 1)):
        Image.fromarray(source.images[row]).save(tmp_path / "mine.png")
        asked = ["--token", str(token), "--image", str(tmp_path / "mine.png"), "--unsigned"]
        assert verify.main([str(handed_on), *asked]) == status


def test_tokens_of_other_images_than_the_callers_are_found(forgotten, source, spec):
    images = source.images.copy()
    images[5, 0, 0, 0] ^= 1  # too little for the evidence
    found = ltu_jax.check_receipt(
        forgotten.folder / "receipt.json", dataclasses.replace(source, images=images), spec, claim=False, unsigned=True
    )
    assert found == ["tokens: they are not those of the images forgotten, or these are others now"]


def test_what_is_asked_for_reaches_the_request(tmp_path, source, spec, original, ids, monkeypatch):
    asked = []

    def stopped(request, *rest, **more):
        asked.append((request, rest, more))
        raise InterruptedError

    monkeypatch.setattr("ltu_jax.deletion.forget.fulfil", stopped)
    for sign in (None, str(tmp_path / "key.pem")):
        with pytest.raises(InterruptedError):
            ltu_jax.forget(
                *(spec, original["params"], source, iter(ids[:3])),
                **{"workdir": str(tmp_path / "out"), "sign": sign, "keep_original": sign is None, "progress": silent},
            )
    for (request, rest, more), sign in zip(asked, (None, tmp_path / "key.pem"), strict=True):
        assert (request.ids, request.home, request.key) == (ids[:3], tmp_path / "out", sign)
        assert request.keep_original is (sign is None) and not request.show_images
        assert rest[:2] == (source, spec) and rest[2]["params"] is original["params"] and more == {"progress": silent}
        assert request.config.data.name == source.name and request.config.weights is None


@pytest.mark.parametrize("method", ["retrain", "partial_retrain", "bad_teacher"])
def test_a_method_that_begins_with_an_untrained_model_needs_more_than_a_function(
    tmp_path, source, spec, original, ids, method
):
    settings = dataclasses.replace(request_settings(trials=0), method=METHOD_CONFIGS[method]())
    with pytest.raises(ConfigError, match=f"model: {method} begins with an untrained model.*; allowed: a ModelSpec"):
        ltu_jax.forget(spec.apply_fn, original["params"], source, ids, workdir=tmp_path / "out", config=settings)
    assert not (tmp_path / "out").exists()


def test_a_stranger_is_refused(tmp_path, source, spec, original):
    with pytest.raises(ConfigError, match="1 of 1 ids are not in the training set: 'nobody'"):
        ltu_jax.forget(spec, original["params"], source, ["nobody"], workdir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_rows_that_the_model_never_saw_nothing_is_done(tmp_path, source, spec, original, ids):
    rows = np.arange(source.num_train)
    trained = dataclasses.replace(source, images=source.images[rows], labels=source.labels[rows], ids=source.ids[rows])
    with pytest.raises(ConfigError, match="has 0 rows in its test part"):
        ltu_jax.forget(spec, original["params"], trained, ids, workdir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
