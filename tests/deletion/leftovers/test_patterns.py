"""Every pattern is found wherever it lies, and nothing that only looks like it: compared with ``bytes.find``."""

import numpy as np
import pytest

from ltu_jax.deletion.leftovers.patterns import LONGEST, Pattern, Patterns, WordIndex, pieces


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def seen(patterns, raw):
    return patterns.found_in(np.frombuffer(bytes(raw), np.uint8))


@pytest.mark.parametrize("shortest", [8, 9, 12, 15, 40])
def test_what_bytes_find_finds_is_found_at_every_place(shortest):
    texts = [noise(size, size).tobytes() for size in (8, 9, 20, 33, 500) if size >= shortest]
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
    assert [piece.tolist() for piece in pieces(np.arange(100), 2)] == [list(range(66)), list(range(64, 100))]


def test_words_are_met_where_they_are_and_not_where_their_slots_are():
    text = noise(3000, 2)
    index = WordIndex(text, np.arange(0, 2992, 7))
    data = np.concatenate([noise(5000, 3), text, noise(64, 4)])
    at, place = index.hits(data, 1)
    assert sorted(zip(at.tolist(), place.tolist(), strict=True)) == [(5000 + k, k) for k in range(0, 2992, 7)]


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


@pytest.mark.parametrize(
    "write", ["train/cat/{:04d}.png", "digits_{:04d}", "{:05d}/image.jpeg", "a/{}/image-of-{}.png"]
)
def test_of_many_that_are_nearly_the_same_each_is_found_wherever_it_lies(write):
    """They share words of eight bytes: at their beginnings, at their ends, or all of them with some others."""
    texts = [write.format(k % 17, k) if write.count("{") > 1 else write.format(k) for k in range(300)]
    patterns = Patterns([Pattern(text.encode(), "id", k, is_token=True) for k, text in enumerate(texts)])
    listed = np.frombuffer("\n".join(texts).encode(), np.uint8)
    assert patterns.found_in(listed) == {("id", k) for k in range(300)}
    for k in (0, 16, 17, 40, 299):
        for place in range(8):
            assert seen(patterns, b"x" * place + b"\n" + texts[k].encode() + b"\n") == {("id", k)}, (k, place)


def test_the_same_text_of_two_is_found_for_both():
    patterns = Patterns([Pattern(b"the same text", "id", owner) for owner in range(40)])
    assert seen(patterns, b"in the same text!") == {("id", owner) for owner in range(40)}


@pytest.mark.parametrize("size", [100, LONGEST])
def test_one_that_is_not_long_is_compared_to_its_end(size):
    texts = [noise(size - 1, 6).tobytes() + end for end in (b"1", b"2")]
    patterns = Patterns([Pattern(text, "file", owner) for owner, text in enumerate(texts)])
    assert [seen(patterns, text) for text in texts] == [{("file", 0)}, {("file", 1)}]


def test_of_a_long_one_the_end_is_compared():
    text = noise(3 * LONGEST, 6).tobytes()
    patterns = Patterns([Pattern(text, "file", 0)])
    assert seen(patterns, text) == {("file", 0)} and seen(patterns, text[: len(text) // 2]) == set()
    assert seen(patterns, text[LONGEST:]) == {("file", 0)}


def test_what_is_known_is_not_looked_for_and_nothing_is_found_in_nothing():
    patterns = Patterns([Pattern(b"12345678", "id", 0)])
    data = np.frombuffer(b"12345678", np.uint8)
    assert patterns.found_in(data, {("id", 0)}) == patterns.found_in(data[:7]) == patterns.found_in(data[:0]) == set()
    assert Patterns([]).found_in(data) == set()
    with pytest.raises(ValueError, match="shorter than 8"):
        Patterns([Pattern(b"1234567", "id", 0)])
