"""What a request looks at before it writes anything, and where that is told."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from small_request import request_settings

from ltu_jax.deletion.fulfil import fulfil
from ltu_jax.deletion.plan import Request, plan
from ltu_jax.deletion.set_up import check_set_up
from ltu_jax.setting import ConfigError


def with_copies(source):
    """Row 50, which stays, is forgotten row 3; held-out rows 170 and 171 are rows 60, which stays, and 4."""
    images = source.images.copy()
    images[50], images[170], images[171] = images[3], images[60], images[4]
    return dataclasses.replace(source, images=images)


def test_copies_are_counted_named_to_the_operator_and_warned_about(tmp_path, source, spec, original, ids):
    copied, request = with_copies(source), Request(request_settings(), ids[:30], tmp_path / "out")
    todo = plan(request, copied, original)
    found = check_set_up(request, todo, copied, spec, original)
    stay, held_out = found.warnings
    assert stay.startswith("a few images that stay, fewer than 5, are copies of those to forget; forgetting these")
    assert held_out.startswith("a few images held out, fewer than 5, are copies of those trained on; what is")
    told = found.as_json(source.ids)
    assert told["copies"]["remain"] == {"identical": 1, "near": 0, "first": [[ids[50], ids[3]]]}
    assert json.loads(json.dumps(told)) == told
    handed_out = json.dumps([found.in_receipt(), found.warnings])
    assert not [name for name in ids if name in handed_out]
    assert found.in_receipt()["copies"] == {"remain": None, "held_out": None}


@pytest.mark.parametrize(("count", "told"), [(4, None), (5, {"identical": 5, "near": 0})])
def test_a_receipt_has_no_count_that_narrows_the_forgotten_rows_down(
    tmp_path, source, spec, original, ids, count, told
):
    images = source.images.copy()
    images[50 : 50 + count] = images[:count]
    copied, request = (
        dataclasses.replace(source, images=images),
        Request(request_settings(), ids[:30], tmp_path / "out"),
    )
    found = check_set_up(request, plan(request, copied, original), copied, spec, original)
    assert found.in_receipt()["copies"]["remain"] == told
    assert f"{count} images" in found.warnings[0] or told is None


def test_the_receipt_says_what_was_found(tmp_path, source, spec, original, ids):
    request = Request(request_settings(trials=0), ids[:30], tmp_path / "out")
    receipt = fulfil(request, with_copies(source), spec, original).receipt
    assert receipt["copies"] == {"remain": None, "held_out": None}
    given, before = receipt["given_model"], receipt["evidence"]["before"]
    assert given["rows"] == {"remain": 130, "forget": 30, "held_out": 120}
    assert given["forget_accuracy"] == pytest.approx(before["forget_accuracy"][0], abs=1e-4)
    assert [line[:20] for line in receipt["warnings"][:2]] == ["a few images that st", "a few images held ou"]


def test_a_wrong_set_up_is_refused_before_anything_is_written(tmp_path, source, spec, original, ids):
    untrained = {"params": spec.init(jax.random.key(5))[0]}
    shifted = dataclasses.replace(source, labels=((source.labels + 1) % 4).astype(np.int32))
    for weights, data, words in (
        (untrained, source, "hardly more than guessing"),
        (original, shifted, "if its outputs are 1,2,3,0"),
    ):
        with pytest.raises(ConfigError, match=words):
            fulfil(Request(request_settings(), ids[:30], tmp_path / "out"), data, spec, weights)
    assert not (tmp_path / "out").exists()


def test_a_later_request_is_measured_on_the_model_that_the_last_one_left(home, tmp_path, source, spec, original, ids):
    again = shutil.copytree(home, tmp_path / "out")
    request = Request(request_settings(), ids[40:50], again)
    todo = plan(request, source, original)
    found = check_set_up(request, todo, source, spec, original)
    assert found.given_model is not None and found.given_model["rows"]["remain"] == 160 - 40 - 10
    without = check_set_up(request, todo, source, spec, None)
    assert without.given_model == found.given_model  # whatever was given
    first = Request(request_settings(), ids[40:50], tmp_path / "first")
    other = check_set_up(first, plan(first, source, original), source, spec, original)
    assert other.given_model is not None
    assert other.given_model["known_better_auc"] != found.given_model["known_better_auc"]


def test_a_model_that_is_yet_to_be_trained_is_not_measured(tmp_path, source, spec, ids):
    request = Request(request_settings(), ids[:30], tmp_path / "out")
    found = check_set_up(request, plan(request, source), source, spec, None)
    assert found.given_model is None and found.in_receipt()["given_model"] is None and len(found.warnings) == 1


def test_who_forgot_to_name_the_weights_is_told(tmp_path, source, spec, original, ids):
    request = Request(request_settings(), ids[:30], tmp_path / "out")
    for given, told in ((None, 1), (original, 0)):
        found = check_set_up(request, plan(request, source, given), source, spec, given)
        assert sum(line.startswith("config.weights is unset: the request trains") for line in found.warnings) == told


def test_classes_that_only_one_side_has_are_warned_of(tmp_path, source, spec, original, ids):
    """Nothing is written of which class: only how many rows and classes."""
    test, train = np.arange(len(ids)) >= source.num_train, np.arange(len(ids)) < source.num_train
    forgotten = np.arange(len(ids)) < 30
    request = Request(request_settings(), ids[:30], tmp_path / "out")

    def found(kept):
        rows = np.flatnonzero(kept)
        num_train = int(kept[: source.num_train].sum())
        data = dataclasses.replace(
            source, images=source.images[rows], labels=source.labels[rows], ids=source.ids[rows], num_train=num_train
        )
        return check_set_up(request, plan(request, data, original), data, spec, original).warnings

    three = source.labels == 3
    alone = int((three & forgotten).sum())
    assert found(~(test & three))[0].startswith(f"nothing can be shown of {alone} of 30 rows to forget: no row held")
    assert found(~(train & ~forgotten & three))[0].startswith("no row that stays is of 1 of the 4 classes that are")
    assert found(np.ones(len(ids), bool)) == []


def test_who_forgot_the_weights_is_told_why_rows_are_held_out(tmp_path, source, ids):
    settings = request_settings()
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, held_out="train"))
    with pytest.raises(
        ConfigError, match=r"ids are not in the training set: .* \(held out\).*; config.weights is unset"
    ):
        plan(Request(settings, ids[: source.num_train - 1], tmp_path / "out"), source)
