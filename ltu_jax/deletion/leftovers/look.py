"""Looks through bytes for what must not remain, and through all that is packed, encoded or drawn in them.

Whatever can be read gives further bytes, which are looked through alike, as deep and as much as a budget for each file
allows. What could not be read is noted, and so are bytes that look compressed or encrypted and were not explained.
"""

import io
import itertools
import mmap
import operator
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from ltu_jax.deletion.leftovers import tables, texts, unpacking
from ltu_jax.deletion.leftovers.levels import as_u8, levels, of_numbers, pictures_of
from ltu_jax.deletion.leftovers.opaque import opaque_blocks, opaque_text
from ltu_jax.deletion.leftovers.patterns import ANCHOR, Patterns
from ltu_jax.deletion.leftovers.pictures import Album, Picture, jpeg_extent, small
from ltu_jax.deletion.leftovers.pixels import Pixels
from ltu_jax.deletion.leftovers.targets import (
    HASH,
    ID,
    PICTURE,
    PIXELS,
    SearchTargets,
    raw_name,
    target_patterns,
    unsearched_ids,
)
from ltu_jax.deletion.leftovers.unpacking import JPEG, Budget, BytesFile, TooMuchError
from ltu_jax.setting import ConfigError

_STREAMED = 64 << 20  # bytes of a stream that are looked through at a time
_EDGE = 1 << 20  # overlap of these, bytes
_SMALL = 1 << 15  # what is smaller is looked through together
_DEEPEST = 5
_TOLD = 1 << 12  # bytes that were decoded and are no coincidence
_LONG = (64, 256)  # bytes of a text that is no coincidence: in a file, in what was unpacked or decoded
_HEADER = 1 << 10  # bytes before the compressed ones of a JPEG that are usual
_ATTEMPT = 256  # bytes that an attempt to unpack counts for
_SHORT = re.compile(rb"(?:(?<=[\"'\n])|\A)[^\"'\r\n]{3,7}(?=[\"'\r\n]|\Z)")
_MAGICS = (*unpacking.IMAGES, *unpacking.STREAMS, unpacking.ZIP, unpacking.NUMPY)

Span = tuple[int, int]
"""First and last of bytes that are explained: compressed data that were read."""


class Look:
    """The state of a search."""

    def __init__(self, wanted: SearchTargets) -> None:
        """Prepares what is searched for."""
        owner_of = {name: owner for owner, name in enumerate(wanted.ids)}
        self._patterns = Patterns(list(target_patterns(wanted, owner_of)))
        self._pixels = Pixels({owner_of[name]: image for name, image in wanted.images.items()})
        self._album = Album(wanted.images.values(), wanted.others) if wanted.images else None
        self._in_album = [owner_of[name] for name in wanted.images]
        skipped = set(unsearched_ids(wanted.ids))
        self._short = {raw_name(name): owner_of[name] for name in wanted.ids if len(raw_name(name)) < ANCHOR}
        self._short = {text: owner for text, owner in self._short.items() if wanted.ids[owner] not in skipped}
        self.plain = [wanted.ids[owner] for owner in self._pixels.plain]
        self.found: dict[str, set[tuple[str, int]]] = {}  # kind and owner, by path
        self._unsearched: dict[str, None] = {}
        self._opaque: dict[str, int] = {}

    def unsearched(self) -> list[str]:
        """What was not searched, and why."""
        looks = "look compressed or encrypted, and nothing opened them"
        return sorted([*self._unsearched, *(f"{label}: {size} bytes {looks}" for label, size in self._opaque.items())])

    def not_searched(self, label: str, why: str | Exception) -> None:
        """Notes what was not searched."""
        self._unsearched[f"{label}: {' '.join(str(why).split())[:160] or type(why).__name__}"] = None

    def search_name(self, label: str) -> None:
        """Searches a file name."""
        raw = raw_name(label)
        for name in {raw, unquote_to_bytes(raw)}:
            found = self._patterns.found_in(np.frombuffer(name, np.uint8))
            self._add(label, {key for key in found if key[0] in (ID, HASH)})
            self._add(label, {(ID, self._short[part]) for part in name.split(b"/") if part in self._short})

    def search_file(self, path: Path, label: str) -> int:
        """Searches a file and returns its size."""
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if size:
                    raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed when its last array is freed
                    self._look(np.frombuffer(raw, np.uint8), label, 0, Budget(size))
                return size
        except Exception as error:  # a file may be anything, and the search must go on
            self.not_searched(label, error)
            return 0

    def search_checkpoint(self, folder: Path, label: str) -> None:
        """Searches the arrays of an Orbax folder as images; its files are searched as bytes as well."""
        from ltu_jax.interop import orbax_folder

        try:
            arrays = orbax_folder.read_arrays(folder, "--leftovers")
        except ConfigError as error:
            self.not_searched(label, error)
            return
        for name, array in arrays.items():
            self._look_at_array(array, f"{label}!{name}")

    def _look(self, data: np.ndarray, label: str, depth: int, budget: Budget, is_sure: bool = True) -> None:
        """Looks through bytes, u8[n]; if it is ``is_sure`` that there is something, names what looks encrypted."""
        self._add(label, self._patterns.found_in(data, self.found.get(label, set())))
        if self._short:
            tokens = {match[0] for match in _SHORT.finditer(data)}  # pyrefly: ignore
            self._add(label, {(ID, self._short[text]) for text in tokens if text in self._short})
        spans: list[Span] = []
        is_table = False
        try:
            is_table = self._open(data, label, depth, budget, spans)
            self._read(data, label, depth, budget, is_sure)
        except TooMuchError as error:
            self.not_searched(label, f"{error}: the rest of these was not unpacked")
        for first, last in _between(spans, len(data)):
            self._find_pixels(itertools.chain([data[first:last]], levels(data[first:last])), label)
            size = sum(end - begin for begin, end in opaque_blocks(data[first:last]))
            if size and is_sure and not is_table:
                self._opaque[label] = self._opaque.get(label, 0) + size

    def _find_pixels(self, readings: Iterable[np.ndarray], label: str) -> None:
        """Looks for pixels in each of the readings, u8[n], of the same bytes."""
        known = {owner for kind, owner in self.found.get(label, ()) if kind == PIXELS}
        for reading in readings:
            found = self._pixels.found_in(reading, known)
            self._add(label, {(PIXELS, owner) for owner in found})
            known |= found

    def _open(self, data: np.ndarray, label: str, depth: int, budget: Budget, spans: list[Span]) -> bool:
        """Opens all that is packed or drawn in bytes, adds what that explains to ``spans``; whether it is a table."""
        few: list[bytes] = []
        ends: np.ndarray | None = None
        is_read = self._open_whole(data, label, depth, budget, spans)
        noted = dict(self._unsearched) if is_read else {}
        for at, magic in unpacking.places(data, _MAGICS):
            if any(first <= at < last for first, last in spans[-8:]):
                continue
            span = None
            try:
                if magic == JPEG:
                    if ends is None:
                        ends = np.array([end for end, _ in unpacking.places(data, (b"\xff\xd9",))], np.int64)
                    if extent := jpeg_extent(data, at, ends):
                        first = at if extent[0] - at < _HEADER else extent[0]  # a longer one holds a thumbnail
                        span = (first, extent[1]) if self._open_picture(data[at : extent[1]], label, budget) else None
                elif magic in unpacking.IMAGES:
                    span = self._open_image(data, at, magic, label, budget)
                elif magic == unpacking.NUMPY:
                    file = io.BufferedReader(BytesFile(data[at:], budget))
                    self._look_at_array(unpacking.npy(data[at:], file), label)
                elif depth >= _DEEPEST:
                    if magic == unpacking.ZIP or magic not in unpacking.DEFLATED and unpacking.opened(data, at, magic):
                        self.not_searched(label, f"packed more than {_DEEPEST} times")
                elif magic == unpacking.ZIP:
                    span = self._open_member(data, at, label, depth, budget)
                elif stream := unpacking.opened(data, at, magic):
                    is_sure = magic not in unpacking.DEFLATED
                    if self._look_at_stream(stream, label, depth, budget, is_sure, few):
                        span = at, stream.end
            except TooMuchError:
                raise
            except Exception as error:  # what is packed may be anything, and the search must go on
                self.not_searched(label, error)
            if span:
                spans.append(span)
        if is_read:  # that its pages alone cannot be read says nothing
            self._unsearched = noted
        if few:
            self._look(np.frombuffer(texts.GAP.join(few), np.uint8), label, depth + 1, budget)
        return is_read

    def _open_whole(self, data: np.ndarray, label: str, depth: int, budget: Budget, spans: list[Span]) -> bool:
        """Opens what is told by the head of a file alone, tables, tar, some pictures; whether it is a table, read."""
        head, is_read = data[:512].tobytes(), False
        if what := unpacking.closed(head):
            self.not_searched(label, f"{what}: it is not opened")
        try:
            if head.startswith(tables.SQLITE):
                for values in tables.sqlite_values(data, budget):
                    self._look(np.frombuffer(values, np.uint8), label, depth + 1, budget)
                is_read = True
            for magic, kind in tables.ARROW.items():
                if head.startswith(magic):
                    for column in tables.arrow_values(data, kind, budget):
                        self._look(column, label, depth + 1, budget)
                    is_read = True
            if head[257:262] == b"ustar" and depth < _DEEPEST:
                with tarfile.open(fileobj=io.BufferedReader(BytesFile(data, budget)), mode="r:") as archive:
                    for member in archive:
                        if member.isfile():
                            self._look_at_part(data, member.offset_data, member.size, member.name, label, depth, budget)
                            spans.append((member.offset_data, member.offset_data + member.size))
        except TooMuchError:
            raise
        except Exception as error:  # as above
            self.not_searched(label, error)
        if not head.startswith(tuple(_MAGICS)) and self._open_picture(data, label, budget):
            spans.append((0, len(data)))
        return is_read

    def _open_image(self, data: np.ndarray, at: int, magic: bytes, label: str, budget: Budget) -> Span | None:
        """Looks at a picture that begins as one of ``unpacking.IMAGES``; what it explains."""
        head, last = data[at : at + 32].tobytes(), len(data)
        if magic == b"RIFF":
            if head[8:12] != b"WEBP":
                return None
            last = min(last, at + 8 + int.from_bytes(head[4:8], "little"))
        if magic == b"BM" and (head[6:10] != bytes(4) or head[15:18] != bytes(3)):
            return None
        if head.isascii() and head.decode().isprintable() or data[max(0, at - 6) : at].tobytes() == b"Exif\0\0":
            return None
        end = self._open_picture(data[at:last], label, budget)
        if not end:
            return None
        first = data[at : at + end].tobytes().find(b"IDAT") if magic == unpacking.PNG else 0
        return at + max(0, first), at + end

    def _open_picture(self, data: np.ndarray, label: str, budget: Budget) -> int:
        """Looks at a picture; how far it was read, 0 if there is none or it is damaged."""
        if not self._album:
            return 0
        picture = Picture(data, budget)
        for frame in picture.frames():
            self._match(frame.small, label)
            if frame.pixels is not None:
                self._find_pixels([frame.pixels.ravel()], label)
        if picture.is_one and picture.problem:
            self.not_searched(label, picture.problem)
        return 0 if picture.problem else picture.end

    def _match(self, pictures: np.ndarray, label: str) -> None:
        if self._album:
            self._add(label, {(PICTURE, self._in_album[i]) for i in self._album.found_in(pictures)})

    def _open_member(self, data: np.ndarray, at: int, label: str, depth: int, budget: Budget) -> Span | None:
        """Looks at a member of a zip archive; what it explains."""
        member = unpacking.Member(data, at)
        if member.is_encrypted:
            self.not_searched(f"{label}!{member.name}", "encrypted")
        elif member.method == 0:
            if member.has_size:
                self._look_at_part(data, member.start, member.size, member.name, label, depth, budget)
        elif stream := member.stream(data):
            self.search_name(f"{label}!{member.name}")
            self._look_at_stream(stream, f"{label}!{member.name}", depth, budget, True)
            return member.start, stream.end
        else:
            self.not_searched(f"{label}!{member.name}", f"compressed by method {member.method} of zip")
        return (member.start, member.start + member.size) if member.has_size else None

    def _look_at_part(
        self, data: np.ndarray, start: int, size: int, name: str, label: str, depth: int, budget: Budget
    ) -> None:
        """Looks through a member of an archive that lies in it as it is."""
        self.search_name(f"{label}!{name}")
        if start + size > len(data):
            self.not_searched(f"{label}!{name}", "it ends early")
        budget.spend(size)
        self._look(data[start : start + size], f"{label}!{name}", depth + 1, budget)

    def _look_at_stream(
        self,
        stream: unpacking.Stream | unpacking.Frame,
        label: str,
        depth: int,
        budget: Budget,
        is_sure: bool,
        few: list[bytes] | None = None,
    ) -> bool:
        """Looks through what is unpacked; whether it was more than a coincidence.

        Args:
          stream: what is unpacked.
          label: the path.
          depth: how deep it is packed.
          budget: of the file.
          is_sure: whether it is more than a coincidence of two bytes.
          few: where short ones are put, to be looked through together.
        """
        budget.spend(_ATTEMPT)
        last, size = b"", 0
        while block := stream.read(_STREAMED):
            budget.spend(len(block))
            size += len(block)
            if few is not None and size < _SMALL and not unpacking.closed(block) and not _is_whole(block):
                few.append(block)
            else:
                self._look(np.frombuffer(last + block, np.uint8), label, depth + 1, budget)
            last = block[-_EDGE:]
        if stream.problem and is_sure:
            self.not_searched(label, stream.problem)
        return is_sure or not stream.problem

    def _look_at_array(self, array: np.ndarray, label: str) -> None:
        """Looks at an array as images of any size, or as text; its bytes are looked through elsewhere."""
        if array.dtype.kind == "U":
            text = "\n".join(array.ravel().tolist()).encode("utf-8", "surrogatepass")
            self._add(label, self._patterns.found_in(np.frombuffer(text, np.uint8)))
        elif self._album and (images := pictures_of(array)) is not None:
            for start in range(0, len(images), 256):
                some = as_u8(np.ascontiguousarray(images[start : start + 256]))
                if some is not None:
                    shown = small(some)
                    self._match(np.concatenate([shown, shown[..., ::-1]]), label)  # BGR too

    def _read(self, data: np.ndarray, label: str, depth: int, budget: Budget, is_sure: bool) -> None:
        """Reads what texts in bytes encode."""
        least = _LONG[bool(depth)]  # what seems to be encoded seems to hold more that is
        runs = texts.printable_runs(data, least)
        for wide in texts.wide_texts(data):
            for first, last in texts.printable_runs(wide, least) if depth < _DEEPEST else ():
                self._look(wide[first:last], label, depth + 1, budget)
        is_all = is_sure and runs == [(0, len(data))]
        for text in texts.joined(data, runs, _STREAMED, _EDGE):
            budget.spend(len(text))
            left = self._look_at_text(text, label, depth, budget, is_all) if depth < _DEEPEST else text
            if size := opaque_text(left):
                self.not_searched(label, f"{size} characters look encoded, and nothing decoded them")

    def _look_at_text(self, text: bytes, label: str, depth: int, budget: Budget, is_all: bool) -> bytes:
        """Looks at what a text encodes; what of it is left then. Dark pixels are characters too, if not ``is_all``."""
        encoded, left = texts.decoded(text)
        has_escapes = texts.has_escapes(left) or b"\\/" in text  # ``decoded`` has put these right already
        plain = texts.unescaped(text) if has_escapes else []
        found = [(content, depth + 2, is_all) for content in plain]
        for content in encoded:
            parts = content.split(texts.GAP)
            told = [part for part in parts if is_all or len(part) >= _TOLD]
            rest = [part for part in parts if not is_all and len(part) < _TOLD]
            found += [(texts.GAP.join(some), depth + 1, some is told) for some in (told, rest) if some]
        for content, deeper, is_sure in found:
            budget.spend(len(content))
            if budget.is_new(label, content):
                self._look(np.frombuffer(content, np.uint8), label, deeper, budget, is_sure)
        rows = list(texts.numbers(text))
        is_byte = [bool((row == row.astype(np.uint8)).all()) for row in rows]
        as_bytes = [row.astype(np.uint8).tobytes() for row, fits in zip(rows, is_byte, strict=True) if fits]
        if as_bytes:
            self._look(np.frombuffer(texts.GAP.join(as_bytes), np.uint8), label, depth + 1, budget)
        for row in itertools.compress(rows, map(operator.not_, is_byte)):
            self._find_pixels(of_numbers(row), label)
        return left

    def _add(self, label: str, found: set[tuple[str, int]]) -> None:
        if found:
            self.found.setdefault(label, set()).update(found)


def _is_whole(block: bytes) -> bool:
    """Whether bytes begin as what is told by the head of a file alone."""
    return block.startswith((tables.SQLITE, *tables.ARROW)) or block[257:262] == b"ustar"


def _between(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """What is not in any of the spans."""
    at = 0
    for first, last in sorted(spans):
        if first > at:
            yield at, first
        at = max(at, last)
    if at < size:
        yield at, size
