"""What a text encodes is read back, as the standard library wrote it; prose encodes nothing."""

import base64
import html
import json
from urllib.parse import quote

import numpy as np
import pytest

from ltu_jax.deletion.leftovers.texts import (
    decoded,
    has_escapes,
    joined,
    numbers,
    printable_runs,
    unescaped,
    wide_texts,
)

NOISE = np.random.default_rng(0).bytes(300)


def dump(raw, form):
    lines = []
    for at in range(0, len(raw), 16):
        some = raw[at : at + 16]
        plain = "".join(chr(c) if 32 <= c < 127 else "." for c in some)
        if form == "xxd":
            words = " ".join(some[k : k + 2].hex() for k in range(0, len(some), 2))
            lines.append(f"{at:08x}: {words:39}  {plain}")
        else:
            lines.append(f"{at:08x}  {some[:8].hex(' ')}  {some[8:].hex(' ')}  |{plain}|")
    return "\n".join(lines).encode() + b"\n"


CODED = {
    "base64": base64.b64encode,
    "base64 for URLs": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="),
    "base64 in lines": base64.encodebytes,
    "base64 in lines of DOS": lambda raw: base64.encodebytes(raw).replace(b"\n", b"\r\n"),
    "base32": base64.b32encode,
    "base85": base64.b85encode,
    "ascii85": base64.a85encode,
    "ascii85 of Adobe, in lines": lambda raw: base64.a85encode(raw, wrapcol=72, adobe=True),
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode(),
    "hex, spaced": lambda raw: raw.hex(" ").encode(),
    "hex, colons, in lines": lambda raw: raw.hex(":", 1).encode().replace(b":", b":\n", 3),
    "xxd": lambda raw: dump(raw, "xxd"),
    "hexdump -C": lambda raw: dump(raw, "hexdump"),
}


@pytest.mark.parametrize("form", CODED)
@pytest.mark.parametrize("size", [200, 255, 300])
def test_what_is_encoded_is_read(form, size):
    out, _ = decoded(b'see: "' + CODED[form](NOISE[:size]) + b'", and so on')
    wanted = NOISE[: size // 5 * 5] if form == "base32" else NOISE[:size]
    if form in ("base85", "ascii85", "xxd", "hexdump -C"):
        out, _ = decoded(b"\n" + CODED[form](NOISE[:size]) + b"\n")
    assert any(wanted in one for one in out)


def test_several_in_lines_of_their_own_are_read_each():
    parts = [NOISE[:50], NOISE[50:101], NOISE[101:200]]
    out, left = decoded(b"\n".join(base64.b64encode(part).rstrip(b"=") for part in parts))
    assert all(part in out[0] for part in parts) and left == b""


def test_prose_is_left_as_it_is():
    prose = b"It was the best of times, it was the worst of times; and so on, for 200 pages or so.\n" * 20
    assert decoded(prose) == ([], prose) and unescaped(prose) == [] and list(numbers(prose)) == []


@pytest.mark.parametrize("text", ["train/cat/größe 1.png", "a<b>&c", "two\nlines\t'x'", "日本"])
def test_escapes_are_undone(text):
    raw = text.encode()
    assert unescaped(b"<" + json.dumps(text)[1:-1].encode() + b"\\n>")[0].startswith(b"<" + raw)
    assert unescaped(b"?" + quote(text, "").encode() + b"%20") == [b"?" + raw + b" "]
    assert unescaped(b"&quot;" + html.escape(text).encode()) == [b'"' + raw]
    every = "".join(f"\\u{ord(c):04x}" for c in "plain").encode()
    assert unescaped(every) == [b"plain"] * 2
    assert unescaped(b"caf=C3=A9 =\nau") == ["café au".encode()]
    assert unescaped(b"a string over two\\\nlines\\x41") == [b"a string over two\nlinesA"]
    assert has_escapes(every) and has_escapes(b"a%20b") and not has_escapes(b"50 % of it")


def test_bytes_as_python_writes_them_are_undone():
    assert NOISE in unescaped(repr(NOISE).encode())[0]
    as_letters = json.dumps(NOISE.decode("latin-1")).encode()
    assert NOISE in unescaped(as_letters)[1]


@pytest.mark.parametrize(
    "write",
    [
        lambda x: ",".join(map(str, x)),
        lambda x: json.dumps(np.reshape(x, (-1, 5)).tolist()),
        lambda x: ", ".join(f"0x{v:02x}" for v in x),
        lambda x: "{" + ",\n".join(f"0X{v:02X}" for v in x) + "};",
        lambda x: "\n".join(f'"{v}"' for v in x),
        lambda x: "P3 10 10 255\n" + " ".join(map(str, x)),
    ],
)
def test_numbers_are_read(write):
    wanted = list(NOISE[:100])
    (row,) = numbers(f"a: {write(wanted)} end".encode())
    assert str(wanted)[1:-1] in str(row.astype(int).tolist())


def test_fractions_are_read():
    values = np.random.default_rng(0).normal(size=60)
    (row,) = numbers(json.dumps(values.tolist()).encode())
    np.testing.assert_array_equal(row, values)


def test_runs_of_text_are_found_within_other_bytes():
    zeros = bytes(1000)
    text = b"0123456789" * 30
    for before in range(20):
        data = np.frombuffer(zeros[:before] + zeros + text + zeros + b"short" + zeros, np.uint8)
        assert printable_runs(data, 64) == [(1000 + before, 1300 + before)]
        assert list(joined(data, printable_runs(data, 64), 1 << 20, 0)) == [text]
    assert printable_runs(data, 400) == [] and printable_runs(np.frombuffer(b"short", np.uint8), 400) == [(0, 5)]
    whole = np.frombuffer("größe\n".encode() * 10, np.uint8)
    assert printable_runs(whole[:0], 0) == []
    parts = list(joined(np.frombuffer(text, np.uint8), [(0, 300)], 100, 10))
    assert parts == [text[:110], text[100:210], text[200:]]


def test_a_run_goes_on_beyond_the_piece_in_which_it_begins():
    """Bytes are looked at a mebibyte at a time."""
    text, zeros = b"0123456789" * 70_000, bytes(600_000)
    data = np.frombuffer(zeros + text + zeros + text + zeros, np.uint8)
    assert printable_runs(data, 64) == [(600_000, 1_300_000), (1_900_000, 2_600_000)]


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("before", [0, 1, 40])
def test_text_of_two_bytes_a_character_is_read(code, before):
    text = "AAAAAAAAAA" * 2000 + "größe, and so on."
    raw = bytes([200]) * before + text.encode(code)
    found = [wide.tobytes() for wide in wide_texts(np.frombuffer(raw, np.uint8))]
    assert any(text[1:-1].encode("latin-1") in one for one in found)  # half a character may be cut off
    assert list(wide_texts(np.frombuffer(NOISE * 30, np.uint8))) == list(wide_texts(np.frombuffer(b"", np.uint8))) == []
