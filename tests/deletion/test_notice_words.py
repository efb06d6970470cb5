"""Numbers and times as people write them."""

from ltu_jax.deletion.notice_words import count_of, images, percent, signed, were, when


def test_one_and_many():
    assert (count_of(1, "class"), count_of(3, "class"), images(0)) == ("1 class", "3 classes", "0 images")
    assert (were(1, "id"), were(2, "id")) == ("1 id was", "2 ids were")


def test_changes_have_their_sign_and_nothing_has_none():
    assert [signed(x) for x in (1.25, -0.04, 0.0, -3.0)] == ["+1.2", "0.0", "0.0", "\u22123.0"]
    assert (percent(0.125), percent(None)) == ("12 %", "-")


def test_a_time_is_a_day_and_what_is_none_stays():
    assert when("2026-11-26T08:49:20+00:00") == "26 November 2026, 08:49 UTC" and when("soon") == "soon"
