"""The set-ups are as many as they claim and change what they say; and what a command says is read right."""

import json

import numpy as np
import pytest

from experiments.reliability import set_ups, wrong_set_ups
from experiments.reliability.photos import NAMES, Case, Photo, World, write_case
from experiments.reliability.set_ups import SET_UPS
from experiments.reliability.wrong_set_ups import answer


def photos(part, count):
    shades = np.random.default_rng(len(part)).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return tuple(Photo(NAMES[at % len(NAMES)], f"{part}{at}", pixels) for at, pixels in enumerate(shades))


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(set_ups, "correct", lambda weights, of: np.arange(len(of)) % 2 == 0)
    counts = {"forget": 8, "remain": 40, "others": 120, "held_out": 20, "more": 30, "unseen": 4}
    tensors = {"params.backbone.layer4_0.conv1.kernel": (3, 3, 4, 8), "params.head.kernel": (8, 4)}
    tensors |= {"params.head.bias": (4,), "batch_stats.backbone.bn1.mean": (8,), "batch_stats.backbone.bn1.var": (8,)}
    flat = {name: np.random.default_rng(0).normal(size=shape).astype(np.float32) for name, shape in tensors.items()}
    weights = {}
    for name, tensor in flat.items():
        *places, last = name.split(".")
        at = weights
        for place in places:
            at = at.setdefault(place, {})
        at[last] = tensor
    return World(**{part: photos(part, count) for part, count in counts.items()}, weights=weights)


def told(case, folder):
    """All that the command is given, as bytes."""
    write_case(folder, case)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files, case.words


def test_there_are_twenty_wrong_ones_and_three_right_ones_each_unlike_the_others(world, tmp_path):
    controls = [one for one in SET_UPS if one.expected == (0,)]
    wrong = [one for one in SET_UPS if one not in controls]
    assert len(controls) == 3 and len(wrong) >= 20
    assert all(
        one.name.startswith("control") == one.what.startswith("control:") == (one in controls) for one in SET_UPS
    )
    assert all(set(one.expected) <= {2, 4} for one in wrong)
    right = Case(world.forget, world.remain, world.held_out, world.weights, world.forget)
    seen = []
    for one in SET_UPS:
        files = told(one.change(right, world), tmp_path / one.name)
        assert files not in seen, one.name
        seen.append(files)


def test_the_images_really_asked_for_are_never_the_altered_ones(world):
    right = Case(world.forget, world.remain, world.held_out, world.weights, world.forget)

    true = {id(photo.pixels) for part in (world.forget, world.remain, world.others) for photo in part}
    for one in SET_UPS:
        case = one.change(right, world)
        assert case.asked and {id(photo.pixels) for photo in case.asked} <= true, one.name
        assert not {photo.name for photo in case.asked} & {photo.name for photo in world.unseen}, one.name


def test_the_line_of_an_answer_is_the_refusal_or_the_verdict_with_its_first_reason():
    assert answer("reading\nerror: config.weights: x\n") == "error: config.weights: x"
    table = (
        "request 1\nWarning: forgets\ntoo little\nforgetting is NOT SHOWN:\n- one\nreason\n- another\nreceipt in out: x"
    )
    assert answer(table) == "Warning: forgets too little / forgetting is NOT SHOWN: one reason (and 1 more)"
    assert answer("a\nforgetting is shown\nreceipt in out") == "forgetting is shown"


def test_the_table_names_what_ended_with_a_status_that_is_not_right(tmp_path, capsys):
    ends = (("control_folder", 4, True), ("mirror_images", 0, True), ("tiny_rate", 4, True))
    for name, status, wrote in (*ends, ("not_a_number", 2, True), ("labels_sorted", 2, False)):
        folder = tmp_path / name
        folder.mkdir()
        outcome = {"status": status, "seconds": 1, "wrote": wrote, "before": {}}
        (folder / "outcome.json").write_text(json.dumps(outcome))
        (folder / "said.txt").write_text("forgetting is shown\nreceipt in")
    wrong_set_ups.print_table(tmp_path)
    out = capsys.readouterr().out
    assert out.endswith("status not right: control_folder, mirror_images, not_a_number\n")
    assert out.count("\n| `") == 5 and "| **4** |" in out and "| **0** |" in out


def test_auc_counts_pairs():
    assert wrong_set_ups.auc(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == (0.5 + 0 + 1 + 1) / 4
