"""Every stretch is found wherever it lies, and nothing that only looks like it: compared with ``bytes.find``."""

import numpy as np
import pytest

from ltu_jax.deletion.leftovers.patterns import LONGEST, STRETCH, Pattern, Patterns


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def seen(patterns, raw):
    return patterns.found_in(np.frombuffer(bytes(raw), np.uint8))


def test_what_bytes_find_finds_is_found_at_every_place():
    texts = [noise(size, size).tobytes() for size in (8, 9, 20, 33, 500)]
    patterns = Patterns([Pattern(text, "whole", i) for i, text in enumerate(texts)])
    for place in range(0, 70):
        for i, text in enumerate(texts):
            junk = noise(70, 1000 + place).tobytes()
            assert seen(patterns, junk[:place] + text + junk[place:]) == {("whole", i)}
            assert seen(patterns, junk[:place] + text[:-1]) == seen(patterns, text[1:] + junk) == set()


def test_across_the_pieces_that_are_looked_at_together(monkeypatch):
    monkeypatch.setattr("ltu_jax.deletion.leftovers.patterns._PIECE", 64)
    text = noise(40, 1).tobytes()
    patterns = Patterns([Pattern(text, "whole", 0)])
    for place in range(130):
        assert seen(patterns, bytes(place) + text) == {("whole", 0)}


def test_any_two_rows_of_an_image_are_found_and_less_than_a_stretch_is_not():
    image, row = noise(32 * 96, 2).tobytes(), 96
    patterns = Patterns([Pattern(image, "pixels", 7, stretch=3)], row)
    for place in range(len(image) - 2 * row + 1):
        assert seen(patterns, b"xyz" + image[place : place + 2 * row] + b"xyz") == {("pixels", 7)}, place
    for place in range(0, len(image) - STRETCH, 5):
        assert seen(patterns, b"xyz" + image[place : place + STRETCH - 2] + b"xyz") == set()


def test_an_image_smaller_than_a_stretch_is_found_whole():
    image = noise(48, 3).tobytes()
    patterns = Patterns([Pattern(image, "pixels", 0, stretch=3)], 12)
    assert seen(patterns, b"abc" + image) == {("pixels", 0)} and seen(patterns, image[:-1]) == set()


def test_plain_stretches_are_nobodys():
    sky = np.full((32, 32, 3), (30, 90, 200), np.uint8)
    half = sky.copy()
    half[16:] = noise((16, 32, 3), 4)
    patterns = Patterns([Pattern(sky.tobytes(), "pixels", 0, 3), Pattern(half.tobytes(), "pixels", 1, 3)], 96)
    assert [p.owner for p in patterns.unsearchable] == [0]
    assert seen(patterns, sky.tobytes()) == set()
    assert seen(patterns, half.tobytes()) == seen(patterns, half[15:].tobytes()) == {("pixels", 1)}


def test_two_with_the_same_anchor_are_told_apart():
    end = noise(40, 5).tobytes()
    patterns = Patterns(
        [Pattern(b"one-" + end, "id", 0, is_token=True), Pattern(b"two-" + end, "id", 1, is_token=True)]
    )
    assert seen(patterns, b"two-" + end) == {("id", 1)}
    assert seen(patterns, b" one-" + end + b".") == {("id", 0)}
    assert seen(patterns, b"x.two-" + end) == {("id", 1)}
    for around in (b"a%s", b"%s9", b"_%s", b"-%s", b"Z%s"):
        assert seen(patterns, around % (b"one-" + end)) == set()


def test_of_a_long_one_the_end_is_compared():
    text = noise(3 * LONGEST, 6).tobytes()
    patterns = Patterns([Pattern(text, "file", 0)])
    assert seen(patterns, text) == {("file", 0)} and seen(patterns, text[: len(text) // 2]) == set()


def test_what_is_known_is_not_looked_for_and_nothing_is_found_in_nothing():
    patterns = Patterns([Pattern(b"12345678", "id", 0)])
    data = np.frombuffer(b"12345678", np.uint8)
    assert patterns.found_in(data, {("id", 0)}) == patterns.found_in(data[:7]) == patterns.found_in(data[:0]) == set()
    assert Patterns([]).found_in(data) == set()
    with pytest.raises(ValueError, match="shorter than 8"):
        Patterns([Pattern(b"1234567", "id", 0)])
