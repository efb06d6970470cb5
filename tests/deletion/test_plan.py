"""What there is to do: everything that can be wrong with a request, and rows that stay on their side."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from small_request import request_settings

from ltu_jax.config import method_config
from ltu_jax.data.splits import make_splits
from ltu_jax.deletion import ledger
from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Fulfilled, Plan, Request, plan
from ltu_jax.setting import ConfigError
from ltu_jax.training.checkpoint import load_tree


def test_rows_of_earlier_requests_stay_out_of_what_remains(home, source, ids):
    todo = plan(Request(request_settings(), ids[50:60], home), source)
    assert isinstance(todo, Plan)
    np.testing.assert_array_equal(todo.earlier, np.arange(40))
    np.testing.assert_array_equal(todo.splits.forget, np.arange(50, 60))
    assert not np.isin(todo.splits.remain, np.arange(40)).any() and len(todo.splits.remain) == 160 - 50


def test_ids_forgotten_before_need_no_longer_be_in_the_data(home, source, ids):
    """Who deletes the rows as well, as one should, can repeat a request all the same."""
    gone = np.arange(len(source.ids)) >= 40
    smaller = dataclasses.replace(
        source, images=source.images[gone], labels=source.labels[gone], ids=source.ids[gone], num_train=120
    )
    assert isinstance(plan(Request(request_settings(), ids[:40], home), smaller), Fulfilled)
    todo = plan(Request(request_settings(), [*ids[:3], ids[70]], home), smaller)
    assert isinstance(todo, Plan) and todo.ids == [ids[70]] and not len(todo.earlier)


def test_what_is_wrong_is_found_before_anything_is_written(tmp_path, source, spec, original, ids):
    home, settings = tmp_path / "out", request_settings()
    (tmp_path / "bad.pem").write_text("no key")
    for request, message in (
        (Request(settings, [], home), "ids: none given; allowed: at least one"),
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
        (
            Request(dataclasses.replace(settings, logger="tensorboard"), ids[:3], home),
            "config.logger: 'tensorboard', but a request logs to its own folder alone; allowed: unset",
        ),
    ):
        data = _trained(source) if request.config.data.held_out == "auto" else source
        with pytest.raises(ConfigError) as caught:
            fulfil(request, data, spec, original)
        assert message in str(caught.value)
        assert not home.exists()


def test_rows_that_are_no_images_are_refused(tmp_path, source, spec, original, ids):
    for images in (source.images.astype(np.float32), source.images.reshape(len(source.ids), -1)):
        rows = dataclasses.replace(source, images=images)
        with pytest.raises(ConfigError, match=r"source.images: .* are no images; allowed in a request: uint8\[rows,"):
            fulfil(Request(request_settings(), ids[:3], tmp_path / "out"), rows, spec, original)
    assert not (tmp_path / "out").exists()


def test_the_verdicts_of_all_requests_on_the_ids_count(home, tmp_path, source, ids):
    """Request 1 forgot rows 0..29, request 2 rows 30..39."""
    shutil.copytree(home, tmp_path / "out")
    shown = lambda number, said: _say(tmp_path / "out" / f"request-{number}" / "receipt.json", said)  # noqa: E731
    asked = {"both": [*ids[20:40]], "the first": [*ids[:5]], "the second": [*ids[35:40]], "new ones": [*ids[50:60]]}
    asked["new and of the first"] = [*ids[50:60], *ids[:2]]
    for verdicts, expected in {
        (True, True): {},
        (False, True): {"both": [1], "the first": [1], "new and of the first": [1]},
        (True, False): {"both": [2], "the second": [2]},
        (True, None): {"both": [2], "the second": [2]},  # a receipt of an earlier version does not say
    }.items():
        for number, said in enumerate(verdicts, 1):
            shown(number, said)
        for name, wanted in asked.items():
            todo = plan(Request(request_settings(), wanted, tmp_path / "out"), source)
            assert list(todo.not_shown) == expected.get(name, []), (verdicts, name)


def _say(path, shown):
    receipt = json.loads(path.read_text())
    receipt.pop("claim", None)
    path.write_text(json.dumps(receipt | ({} if shown is None else {"claim": {"shown": shown}})))


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


def test_a_later_request_is_on_the_same_model_and_the_same_held_out_rows(home, source, spec, original, ids):
    settings = request_settings()
    for changed, message in (
        (dataclasses.replace(settings, seeds=dataclasses.replace(settings.seeds, split=7)), "config.seeds.split: 7"),
        (
            dataclasses.replace(settings, data=dataclasses.replace(settings.data, test_size=50)),
            "config.data.test_size: 50",
        ),
        (dataclasses.replace(settings, model=dataclasses.replace(settings.model, width=8)), "config.model.width: 8"),
    ):
        with pytest.raises(ConfigError, match=f"{message} where .*request-2 had .*; allowed: the same"):
            plan(Request(changed, ids[50:60], home), source)
    moved = dataclasses.replace(settings, data=dataclasses.replace(settings.data, data_dir="new", remain_fraction=0.5))
    assert isinstance(plan(Request(moved, ids[50:60], home), source), Plan)


def test_a_request_on_another_models_weights_is_refused(home, source, spec, original, ids):
    """Whoever retrained the model and forgot to begin a new folder."""
    retrained = {"params": jax.tree.map(lambda x: x + 1, original["params"])}
    with pytest.raises(ConfigError, match="config.weights: they are those of another model than"):
        plan(Request(request_settings(), ids[50:60], home), source, retrained)
    last = dict(load_tree(home / "request-2" / "model")[0])
    for known in (original, {"params": last["params"]}, None):
        assert isinstance(plan(Request(request_settings(), ids[50:60], home), source, known), Plan)


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


@pytest.mark.slow
def test_where_held_out_rows_are_cut_from_the_training_part_the_data_may_not_change(
    tmp_path, source, spec, original, ids
):
    settings = request_settings(trials=0)
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, held_out="train"))
    request = Request(settings, [], tmp_path / "out")
    trained = make_splits(source, dataclasses.replace(settings.data, forget_kind="random"), 0).train
    asked, more = ([str(name) for name in source.ids[rows]] for rows in (trained[:10], trained[20:30]))
    fulfil(request._replace(ids=asked), source, spec, original)
    assert isinstance(plan(request._replace(ids=more), source), Plan)
    left = ~np.isin(source.ids, asked)
    smaller = dataclasses.replace(
        source, images=source.images[left], labels=source.labels[left], ids=source.ids[left], num_train=150
    )
    with pytest.raises(ConfigError, match="config.data: .* rows that .* now; allowed: the same rows"):
        plan(request._replace(ids=more), smaller)


def test_a_ledger_that_lost_its_last_line_is_not_gone_on_with(home, tmp_path, source, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    lines = (copy / "ledger.jsonl").read_text().splitlines()
    (copy / "ledger.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(ledger.LedgerError, match="has no whole line of request 2, which is done"):
        plan(Request(request_settings(), ids[60:70], copy), source)


def test_folders_that_were_put_away_are_asked_for_in_one_line(home, tmp_path, source, ids):
    copy = shutil.copytree(home, tmp_path / "out")
    shutil.rmtree(copy / "request-1")
    with pytest.raises(ConfigError, match="request-1/receipt.json.* cannot be read; allowed: a folder with all"):
        plan(Request(request_settings(), ids[:3], copy), source)
    assert isinstance(plan(Request(request_settings(), ids[60:70], copy), source), Plan)  # needs the last alone
    shutil.rmtree(copy / "request-2")
    with pytest.raises(ConfigError, match="request-2/model.* is not there"):
        plan(Request(request_settings(), ids[60:70], copy), source)


def test_a_weights_file_that_is_not_there_is_found_before_the_run(home, source, ids):
    settings = dataclasses.replace(request_settings(), weights="none.msgpack")
    with pytest.raises(ConfigError, match="config.weights: 'none.msgpack' is not there; allowed: a file, or unset"):
        plan(Request(settings, ids[50:60], home), source)
