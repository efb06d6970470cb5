"""The ledger: ids hidden, lines chained."""

import hashlib
import hmac
import json
import stat

import pytest

from ltu_jax.deletion import ledger


@pytest.fixture
def home(tmp_path):
    salt = ledger.make_salt(tmp_path)
    previous = ledger.START
    for number, names in enumerate((["a", "b"], ["c"], ["d", "e", "f"]), 1):
        ids = tuple(sorted(ledger.salted(salt, names)))
        entry = ledger.Entry(number, f"2026-01-0{number}", ids, f"{number:064d}", "f" * 64, previous)
        ledger.append(tmp_path, entry)
        previous = entry.seal
    return tmp_path


def test_requests_are_read_back_in_their_order(home):
    entries = ledger.read_ledger(home)
    assert [len(entry.ids) for entry in entries] == [2, 1, 3]
    assert entries[1].previous == entries[0].seal and entries[0].previous == "0" * 64


def test_ids_are_hmacs_under_the_salt_and_found_again_with_it(home):
    salt = bytes.fromhex((home / "salt").read_text())
    assert ledger.salted(salt, ["a"]) == [hmac.new(salt, b"a", hashlib.sha256).hexdigest()]
    done = ledger.forgotten(ledger.read_ledger(home))
    assert [done[name] for name in ledger.salted(salt, ["a", "c", "f"])] == [1, 2, 3]


def test_without_the_salt_nobody_can_try_ids(home):
    """Every hash of an id that one could think of, plain or under another salt, is not in the file."""
    text = (home / "ledger.jsonl").read_text()
    for name in "abcdef":
        for kind in ("sha256", "sha1", "md5", "sha512"):
            assert hashlib.new(kind, name.encode()).hexdigest() not in text
        assert ledger.salted(b"", [name])[0] not in text and ledger.salted(b"\0" * 32, [name])[0] not in text


def test_the_salt_is_random_its_owners_and_never_replaced(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert ledger.make_salt(other) != ledger.read_salt(home) and len(ledger.read_salt(home) or b"") == 32
    assert stat.S_IMODE((home / "salt").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        ledger.make_salt(home)
    assert not list(home.glob("*.partial"))
    (home / "salt").write_text("zz")
    with pytest.raises(ledger.LedgerError, match="is no salt of 32 bytes"):
        ledger.read_salt(home)


def test_any_character_changed_breaks_the_chain(home):
    path = home / "ledger.jsonl"
    text = path.read_text()
    for place in range(0, len(text), 7):
        if text[place] == "\n":
            continue
        swapped = "0" if text[place] != "0" else "1"
        path.write_text(text[:place] + swapped + text[place + 1 :])
        with pytest.raises(ledger.LedgerError, match="ledger.jsonl: line [123]"):
            ledger.read_ledger(home)


def test_a_ledger_that_is_no_text_is_said(home):
    (home / "ledger.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ledger.LedgerError, match="line 1 cannot be read"):
        ledger.read_ledger(home)
    (home / "ledger.jsonl").unlink()
    (home / "ledger.jsonl").mkdir()
    with pytest.raises(ledger.LedgerError, match="cannot be read"):
        ledger.read_ledger(home)
    (home / "salt").write_bytes(b"\xff" * 64)
    with pytest.raises(ledger.LedgerError, match="is no salt"):
        ledger.read_salt(home)


def test_a_line_taken_out_or_moved_breaks_it_too(home):
    path = home / "ledger.jsonl"
    one, two, three = path.read_text().splitlines()
    for lines in ([two, three], [one, three], [two, one, three], [one, one, two]):
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(ledger.LedgerError, match="the ledger was altered"):
            ledger.read_ledger(home)


def test_a_line_changed_with_its_own_seal_made_anew_is_seen_by_the_next(home):
    path = home / "ledger.jsonl"
    lines = path.read_text().splitlines()
    entries = ledger.read_ledger(home)
    forged = entries[0]._replace(model_sha256="0" * 64)
    lines[0] = json.dumps({"request": forged._asdict(), "seal": forged.seal})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ledger.LedgerError, match="line 2 does not fit"):
        ledger.read_ledger(home)


def following(home, ids=("g",)):
    """The line that comes after those of ``home``."""
    entries = ledger.read_ledger(home)
    previous = entries[-1].seal if entries else ledger.START
    salted = tuple(ledger.salted(b"s", ids))
    return ledger.Entry(len(entries) + 1, "2026-02-01", salted, "a" * 64, "b" * 64, previous)


def test_a_last_line_that_lost_its_line_break_is_whole_and_gets_it_back(home):
    path = home / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert len(ledger.read_ledger(home)) == 3 and not ledger.is_torn(home)
    ledger.append(home, following(home))
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 4
    assert len(ledger.read_ledger(home)) == 4


def test_of_a_ledger_cut_anywhere_all_whole_lines_are_left(home):
    """And the next line is written after them; zeros are what some file systems leave of what was not yet written."""
    path = home / "ledger.jsonl"
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for rest in (b"", b"\0" * 40):
        for cut in range(0, len(whole), 5):
            path.write_bytes(whole[:cut] + rest)
            kept = max((end for end in ends if end <= cut), default=0)
            kept = cut + 1 if cut + 1 in ends and not rest else kept
            entries = ledger.read_ledger(home)
            assert len(entries) == whole[:kept].count(b"\n")
            assert ledger.is_torn(home) == (kept < cut or bool(rest))
            ledger.append(home, following(home))
            assert path.read_bytes().startswith(whole[:kept]) and not ledger.is_torn(home)
            assert ledger.read_ledger(home)[:-1] == entries


def test_a_line_is_added_after_the_last_one_or_not_at_all(home):
    line, before = following(home), (home / "ledger.jsonl").read_bytes()
    with pytest.raises(ledger.LedgerError, match="has got another line meanwhile"):
        ledger.append(home, line._replace(previous=ledger.START))
    assert (home / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"number": 1,', '"number": 7, "number": 1,', 1),
        lambda text: text.replace('"number": 1,', '"number": true,', 1),
        lambda text: text.replace('"number": 1,', '"number": 1.0,', 1),
        lambda text: text.replace('"number"', '"\\u006eumber"', 1),
        lambda text: text.replace(": ", ":", 1),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\u2028", 1),
        lambda text: "\n" + text,
        lambda text: text.replace('"seal"', '"note": "x", "seal"', 1),
    ],
)
def test_a_line_has_one_form(home, change):
    path = home / "ledger.jsonl"
    altered = change(path.read_text())
    assert altered != path.read_text()
    path.write_text(altered)
    with pytest.raises(ledger.LedgerError, match="line 1 "):
        ledger.read_ledger(home)


def test_salted_hashes_are_hmacs_and_older_lines_are_known_too():
    salt, sha256 = b"s" * 32, hashlib.sha256(b"weights").hexdigest()
    salted = hmac.new(salt, b"sha256\n" + sha256.encode(), hashlib.sha256).hexdigest()
    assert ledger.salted_sha256(salt, sha256) == salted
    assert ledger.is_hash_of(salted, sha256, salt) and ledger.is_hash_of(sha256, sha256, salt)
    assert not ledger.is_hash_of(salted, sha256, b"t" * 32) and not ledger.is_hash_of(salted, "0" * 64, salt)


def test_one_hash_names_a_set_of_ids_whatever_their_order():
    assert ledger.ids_sha256(["b", "a"]) == ledger.ids_sha256(["a", "b"]) != ledger.ids_sha256(["a"])
