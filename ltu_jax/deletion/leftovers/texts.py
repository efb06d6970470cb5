"""Reads what text encodes: base64, base85, base32, hex, dumps, escapes, numbers. What is found is joined together."""

import base64
import html
import re
from collections.abc import Callable, Iterator

import numpy as np

GAP = bytes(16)
"""Between two things that were read."""
_APART = b"\n\n"
_PRINTABLE = np.zeros(256, bool)
_PRINTABLE[[9, 10, 13, *range(32, 127)]] = True
_WORDS = 16

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}+(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]++)*+")
_BASE32 = re.compile(rb"[A-Z2-7]{40,}+(?:\r?\n[A-Z2-7]++)*+")
_BASE85 = re.compile(rb"[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{200,}+(?:\r?\n[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]++)*+")
_ASCII85 = re.compile(rb"[!-uz~]{60,}+(?:\r?\n[!-uz~]++)*+")
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[\s:,-]{0,2}+){12,}+")
_DUMP = re.compile(rb"(?m)^[ \t]*+[0-9A-Fa-f]{4,16}:?+[ \t]++((?:[0-9A-Fa-f]{2,8}[ \t-]{1,2}){2,}+)[^\n]*$")
_BREAKS = rb"[\s,;:|\[\](){}\"']"
_NUMBER = rb"[-+]?+(?:0[xX][0-9A-Fa-f]++|(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?+\d++)?+)"
_NUMBERS = re.compile(rb"(?:" + _NUMBER + rb"(?:" + _BREAKS + rb"++|\Z)){48,}+")
_ESCAPES = (
    re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([0-7]{3})|(.))", re.DOTALL),
    re.compile(rb"%([0-9A-Fa-f]{2})"),
    re.compile(rb"&#?\w{1,8};"),
    re.compile(rb"=(?:([0-9A-F]{2})|\r?\n)"),
)
_MARKS = b"!#$%&()*;<>?@^`{|}~"  # that base85 has, and base64 and numbers have not
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SINGLE = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"b": b"\b", b"f": b"\f", b"a": b"\a", b"v": b"\v"}


def printable_runs(data: np.ndarray, least: int) -> list[tuple[int, int]]:
    """Runs of text in bytes, u8[n], first and last: all if nearly all is text, else those of ``least`` bytes."""
    runs: list[tuple[int, int]] = []
    size, printable = 1 << 20, 0
    for start in range(0, len(data), size):
        is_text = _PRINTABLE[data[start : start + size]]
        printable += int(is_text.sum())
        whole = is_text[: len(is_text) // _WORDS * _WORDS].view(np.uint64) == 0x0101010101010101
        edges = np.flatnonzero(np.diff(np.r_[False, whole[::2] & whole[1::2], False]))
        for first, last in (edges.reshape(-1, 2) * _WORDS + start).tolist():
            if runs and runs[-1][1] == first:
                runs[-1] = (runs[-1][0], last)
            else:
                runs.append((first, last))
    if printable >= 0.9 * len(data):
        return [(0, len(data))] if len(data) else []
    return [(_grown(data, first, -1), _grown(data, last, 1)) for first, last in runs if last - first >= least]


def joined(data: np.ndarray, runs: list[tuple[int, int]], size: int, overlap: int) -> Iterator[bytes]:
    """The texts of runs, several together, a long one in parts of ``size`` bytes that overlap."""
    some: list[bytes] = []
    count = 0
    for first, last in runs:
        for start in range(first, last, size):
            some.append(data[start : min(last, start + size + overlap)].tobytes())
            count += len(some[-1])
            if count >= size:
                yield _APART.join(some)
                some, count = [], 0
    if some:
        yield _APART.join(some)


def _grown(data: np.ndarray, at: int, step: int) -> int:
    """The end of a run, which is within a few bytes."""
    for _ in range(_WORDS):
        beside = at if step > 0 else at - 1
        if not 0 <= beside < len(data) or not _PRINTABLE[data[beside]]:
            break
        at += step
    return at


def unescaped(text: bytes) -> list[bytes]:
    """The text without the escapes of C and JSON, percent, HTML, or quoted-printable: a text for each that it has.

    Where JSON escapes characters of one byte these are once letters, in UTF-8, and once bytes.
    """
    backslash, percent, entity, quoted = _ESCAPES
    passes = [
        (backslash, lambda match: _character(match, "utf-8")),
        (percent, lambda match: bytes([int(match[1], 16)])),
        (entity, lambda match: html.unescape(match[0].decode()).encode("utf-8", "surrogatepass")),
        (quoted, lambda match: bytes([int(match[1], 16)]) if match[1] else b""),
    ]
    if b"\\u00" in text:
        passes.append((backslash, lambda match: _character(match, "latin-1")))
    out = [pattern.subn(plain, text) for pattern, plain in passes]
    return [plain for plain, count in out if count]


def _character(match: re.Match[bytes], code: str) -> bytes:
    byte, unicode, octal, single = match.groups()
    if byte:
        return bytes([int(byte, 16)])
    if unicode:
        one = chr(int(unicode, 16))
        return one.encode(code if one < "\u0100" else "utf-8", "surrogatepass")
    return bytes([int(octal, 8) & 255]) if octal else _SINGLE.get(single, single)


def has_escapes(text: bytes) -> bool:
    """Whether there is anything to be unescaped."""
    return any(pattern.search(text) for pattern in _ESCAPES)


def wide_texts(data: np.ndarray) -> Iterator[np.ndarray]:
    """Bytes, u8[n], as texts of two bytes a character, where they may be that: other characters as zeros."""
    for phase in range(2):
        low, high = (data[start : len(data) // 2 * 2 : 2] for start in (phase, 1 - phase))
        seen = np.cumsum((high[::_WORDS] == 0) & _PRINTABLE[low[::_WORDS]])
        if len(seen) > 4 and (seen[4:] - seen[:-4]).max() == 4 or 0 < len(seen) <= 4 and seen[-1] == len(seen):
            yield np.where(high == 0, low, 0)


def decoded(text: bytes) -> tuple[list[bytes], bytes]:
    """What is encoded in the text, of each encoding joined together, and what is left of the text without it."""
    text = text.replace(b"\\/", b"/").replace(b"\\r", b"").replace(b"\\n", b"\n")  # which JSON puts within base64
    out, is_left = [], np.ones(len(text), bool)
    for pattern, read, gap in _READERS:
        some = []
        for match in pattern.finditer(text):
            if got := read(match):
                some.append(got)
                is_left[match.start() : match.end()] = False
        if some:
            out.append(gap.join(some))
    return out, np.frombuffer(text, np.uint8)[is_left].tobytes()


def _base64(match: re.Match[bytes]) -> bytes:
    lines = match[0].translate(_STANDARD, b" \t\r").split(b"\n")
    size = len(lines[0])
    if size % 4 == 0 and {len(line) for line in lines[:-1]} <= {size} and len(lines[-1]) <= size:  # one, in lines
        lines = [b"".join(lines)]
    return GAP.join(base64.b64decode(_padded(line)) for line in lines)


def _padded(line: bytes) -> bytes:
    rest = len(line) % 4
    return line[: len(line) - 1] if rest == 1 else line + b"=" * (-rest % 4)


def _base32(match: re.Match[bytes]) -> bytes:
    text = match[0].translate(None, b"\r\n")
    return base64.b32decode(text[: len(text) // 8 * 8])


def _base85(match: re.Match[bytes]) -> bytes:
    return _tried(base64.b85decode, match[0].translate(None, b"\r\n"))


def _ascii85(match: re.Match[bytes]) -> bytes:
    text = match[0].strip(b"\"',").removeprefix(b"<~").partition(b"~")[0]
    is_told = len(text) >= 200 or match[0].endswith(b"~>")  # for dark pixels are such characters too
    return _tried(base64.a85decode, text) if is_told else b""


def _tried(read: Callable[[bytes], bytes], text: bytes) -> bytes:
    """Base85 of a text, unless that has too few marks and is hex or base64, or is full of escapes."""
    escapes = max(sum(map(len, (match[0] for match in escape.finditer(text)))) for escape in _ESCAPES)
    if len(set(text).intersection(_MARKS)) < 4 or escapes > len(text) / 2:
        return b""
    try:
        return read(text)
    except ValueError:
        return b""


def _hex(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(re.sub(rb"[^0-9A-Fa-f]", b"", match[0]).decode())


def _dump(match: re.Match[bytes]) -> bytes:
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", match[1])
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())


_READERS = (
    (_BASE64, _base64, GAP),
    (_BASE32, _base32, GAP),
    (_BASE85, _base85, GAP),
    (_ASCII85, _ascii85, GAP),
    (_HEX, _hex, GAP),
    (_DUMP, _dump, b""),
)


def numbers(text: bytes) -> Iterator[np.ndarray]:
    """The rows of numbers in a text, f64[n] each: decimal or hexadecimal."""
    for match in _NUMBERS.finditer(text):
        if re.search(rb"0[xX]", match[0]):
            tokens = re.findall(rb"0[xX]([0-9A-Fa-f]++)|(\d++)", match[0])
            yield np.array([int(a, 16) if a else int(b) for a, b in tokens if len(a or b) < 16], np.float64)
        else:
            spaced = re.sub(_BREAKS, b" ", match[0])
            yield np.array(spaced.split(), np.float64)
