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
    (home / "ledger.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ledger.LedgerError, match="cannot be read as text"):
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


def test_one_hash_names_a_set_of_ids_whatever_their_order():
    assert ledger.ids_sha256(["b", "a"]) == ledger.ids_sha256(["a", "b"]) != ledger.ids_sha256(["a"])
