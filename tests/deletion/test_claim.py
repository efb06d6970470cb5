"""The claim's test: what each kind of fake leaves, on invented answers whose truth is known."""

import numpy as np
import pytest

from ltu_jax.deletion.claim import attack_aucs, judge, knew_remain_low, moved_share, stay_low
from ltu_jax.evaluation.likeness import Predictions


def normal(count, mean, seed, right=0.9):
    rng = np.random.default_rng(seed)
    margin = rng.normal(mean, 1, count)
    return Predictions(np.zeros(count, int), rng.random(count) < right, 1 / (1 + np.exp(-margin)), margin)


def model(forget, held_out=2.0, right=0.9, seed=0):
    """Margins of forget and held-out rows around these means."""
    return {
        "forget": normal(300, forget, seed),
        "held_out": normal(400, held_out, seed + 1, right),
        "remain": normal(300, 4.0, seed + 2, min(1, right + 0.1)),
    }


BEFORE = model(3.5)  # the forget rows are well known


@pytest.mark.slow
def test_a_model_that_never_saw_the_rows_is_accepted():
    refused = [seed for seed in range(20) if judge(BEFORE, model(2.0, seed=10 * seed + 10), 1.0).findings]
    assert len(refused) <= 1


@pytest.mark.parametrize(
    ("after", "moved", "message"),
    [
        (BEFORE, 0.0, ["still known better", "too little was forgotten", "only 0.0 % of the weights"]),
        (model(3.3, seed=50), 1.0, ["still known better", "too little was forgotten"]),
        (model(0.5, seed=50), 1.0, ["known worse than held-out rows"]),
        (model(2.0, right=0.6, seed=50), 1.0, ["lost on the remaining rows", "lost on held-out rows"]),
        (model(2.0, seed=50), 0.02, ["only 2.0 % of the weights changed, at least 10 %"]),
    ],
    ids=["nothing done", "next to nothing", "over-forgotten", "damaged", "head only"],
)
def test_each_fake_is_refused_by_what_it_leaves_or_costs(after, moved, message):
    findings = judge(BEFORE, after, moved).findings
    assert len(findings) == len(message)
    for line, words in zip(findings, message, strict=True):
        assert words in line


@pytest.mark.parametrize("known", [2.0, 1.95])
def test_what_the_model_before_did_not_give_away_cannot_be_shown_to_be_forgotten(known):
    """The same model twice: nothing was done, and no attacker could tell."""
    before = model(known, seed=30)
    after = model(2.0, seed=50)
    for later, moved in ((before, 0.0), (after, 1.0)):
        assert any(
            "it cannot be shown: the model before did not give" in f for f in judge(before, later, moved).findings
        )


def test_a_model_that_forgot_everything_alike_forgot_nothing_in_particular():
    """Noise on all weights, or other rows forgotten: the rows look forgotten, and so do those that stay."""
    after = model(2.0, seed=50)
    alike = {**after, "remain": normal(300, 2.0, 90, right=1.0)}
    [line] = judge(BEFORE, alike, 1.0).findings
    assert line.startswith("nothing was forgotten of these rows in particular")
    stay = np.mean(after["remain"].margin[:, None] > after["forget"].margin)
    assert stay - 0.05 < stay_low(after) < stay


def test_a_model_that_does_not_know_the_rows_that_stay_can_show_nothing():
    """Its labels are in another order, or its images normalised otherwise: what is measured is not the model."""
    lost = {**BEFORE, "remain": normal(300, 2.0, 90, right=1.0)}
    [line] = judge(lost, model(2.0, seed=50), 1.0).findings
    assert "look at the order of the classes, the normalisation, the size of the images" in line
    knows = np.mean(BEFORE["remain"].margin[:, None] > BEFORE["held_out"].margin)
    assert knows - 0.05 < knew_remain_low(BEFORE) < knows


@pytest.mark.parametrize("head", ["old_head_", "new_head_"])
def test_what_shows_through_another_head_counts_as_what_shows_through_its_own(head):
    after = model(2.0, seed=50)
    assert judge(BEFORE, after, 1.0, {head: (BEFORE, after)}).findings == []
    found = judge(BEFORE, after, 1.0, {head: (BEFORE, BEFORE)})
    assert [line.split(",")[0].split(":")[0] for line in found.findings] == [
        "the forgotten rows are still known better than held-out rows",
        "too little was forgotten to be shown",
    ]
    assert all("head" in line for line in found.findings)
    assert found.numbers[f"{head}auc"] == found.numbers["auc_before"] and found.numbers[f"{head}auc_drop"] == 0


def test_numbers_are_rounded_to_what_one_row_contributes_and_the_verdict_follows_from_them():
    found = judge(BEFORE, model(2.0, seed=50), 1.0)
    for name, value in found.numbers.items():
        assert np.isclose(value / found.one_row[name] % 1, [0, 1], atol=1e-3).any()
    assert found.one_row["ks"] == 100 / 300
    broken = model(np.nan)
    assert judge(BEFORE, broken, 1.0).numbers["auc"] is None or judge(BEFORE, broken, 1.0).numbers["ks"] == 100
    assert not judge(BEFORE, broken, 1.0).shown


def test_rows_that_were_known_worse_than_strangers_before_can_be_forgotten_too():
    before = model(0.5, seed=70)
    assert judge(before, model(2.0, seed=50), 1.0).findings == []
    assert judge(before, before, 1.0).findings
    aucs = attack_aucs(before, model(2.0, seed=50))
    assert aucs.auc_before < 0.3 and aucs.knew_low > 0.1 and aucs.auc_drop > 0.2


def test_rows_of_a_class_without_a_held_out_row_are_not_passed_over_in_silence():
    other = lambda measured: {**measured, "forget": measured["forget"]._replace(labels=np.arange(300) % 3 // 2)}  # noqa: E731
    [line] = judge(other(BEFORE), other(model(2.0, seed=50)), 1.0).findings
    assert "it cannot be shown for 100 of 300 forgotten rows" in line


def test_of_few_rows_nothing_can_be_shown():
    few = lambda measured: {**measured, "forget": measured["forget"].at(np.arange(19))}  # noqa: E731
    assert "it cannot be shown of 19 rows: at least 20 are needed" in judge(few(BEFORE), few(model(2.0)), 1.0).findings


@pytest.mark.parametrize(("copied", "told"), [(0.0, 0.0), (0.05, 0.05), (0.0501, 0.05), (0.14, 0.1), (1.0, 1.0)])
def test_of_rows_whose_copies_stay_no_answer_tells(copied, told):
    found = judge(BEFORE, model(2.0, seed=50), 1.0, copied=copied)
    assert [line.startswith("copies of more than 5 % of the forgotten rows stay") for line in found.findings] == (
        [True] if copied > 0.05 else []
    )
    assert found.numbers["copied"] == told  # in whole twentieths


def test_held_out_rows_that_were_trained_on_do_not_make_forgotten_ones_look_forgotten():
    """Nothing is forgotten: strangers are known as well as members now, and so are the rows that stay."""
    after = {**BEFORE, "held_out": normal(400, 3.5, 51, right=1.0), "remain": normal(300, 4.5, 52, right=1.0)}
    [line] = judge(BEFORE, after, 1.0).findings
    assert line.startswith("held-out rows are known better than before, by ")
    assert 0 < judge(BEFORE, after, 1.0).numbers["gained_held_out"] < 100 * (1 - BEFORE["held_out"].correct.mean())


def test_both_sides_count_alike_beyond_margin_and_chance():
    limit = 5 + 136 * np.sqrt(1 / 300 + 1 / 400)  # the critical value of 300 and 400 rows at 5 %
    for shift in np.linspace(-0.9, 0.9, 31):
        found = judge(BEFORE, model(2.0 + shift, seed=50), 1.0)
        is_found = any(line.startswith("the forgotten rows ") for line in found.findings)
        assert is_found == (found.numbers["ks"] > limit)


def test_no_number_tells_the_classes_of_the_forgotten_rows():
    """The limit of the distance is by class; two sets of rows alike but for their classes have the same numbers."""

    def told(labels):
        classes = lambda measured: {n: one._replace(labels=labels(len(one.labels))) for n, one in measured.items()}  # noqa: E731
        found = judge(classes(BEFORE), classes(model(3.4, seed=50)), 1.0)
        return {*found.numbers}, " ".join(found.findings)

    for names, lines in map(told, (lambda count: np.zeros(count, int), lambda count: np.arange(count) % 3)):
        assert not [name for name in names if "limit" in name] and "more than 5 beyond what chance makes" in lines


def test_the_drop_is_that_of_two_areas_and_its_interval_knows_that_the_rows_are_the_same():
    after = {name: one._replace(margin=one.margin - 0.3 * (name == "forget")) for name, one in BEFORE.items()}
    found = attack_aucs(BEFORE, after)
    drop, low = found.auc_drop, found.auc_drop_low
    means = [np.mean(measured["forget"].margin[:, None] > measured["held_out"].margin) for measured in (BEFORE, after)]
    assert np.isclose(drop, means[0] - means[1])
    assert 0 < low < drop
    # of models that have nothing to do with each other it is far wider
    other = attack_aucs(BEFORE, model(3.2, seed=90))
    assert drop - low < 0.02 and other.auc_drop - other.auc_drop_low > 0.02


def test_the_share_that_moved_counts_weights_and_not_tensors():
    before = {"big": np.ones((30, 10)), "small": np.ones(100)}
    assert moved_share(before, before) == 0
    assert np.isclose(moved_share(before, {**before, "small": before["small"] + 0.1}), 0.25)
    assert moved_share(before, {**before, "big": before["big"] * (1 + 1e-5)}) == 0  # no digit that matters
    assert moved_share({"zero": np.zeros(3)}, {"zero": np.full(3, 1e-9)}) == 1
