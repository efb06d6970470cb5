"""Small files that claim to be large, each read in a process of its own: how long it takes, and how much memory.

python experiments/reliability/hostile_files.py

Prints, for each file: its bytes, the seconds and the peak memory of reading it beyond that of a harmless file of its
kind, and the line that it was refused with. Exit status 1 if one was accepted, took more than ten seconds or more than
half a gigabyte, or ended its process.
"""

import argparse
import io
import json
import multiprocessing
import pickle
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ltu_jax.config import Data
from ltu_jax.data.sources import load_source
from ltu_jax.interop.pytorch_file import read_state_dict
from ltu_jax.interop.weights import load_weights
from ltu_jax.setting import ConfigError

SECONDS, MEGABYTES, WAIT_S = 10.0, 500.0, 60.0
SHARED = b"(tq\x01" + b"0h\x01h\x01\x86q\x01" * 60
"""A tuple that holds a tuple twice that holds a tuple twice ..., 60 deep."""
WANTED = {"params": {"w": np.zeros(4, np.float32)}}


def main() -> int:
    """Makes each file, reads it, and prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    wrong = 0
    print(f"{'file':44}{'bytes':>10}{'seconds':>9}{'MB':>7}  line")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (what, (name, make, read)) in enumerate(FILES.items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            path = folder / name
            make(path)
            size = path.stat().st_size
            seconds, megabytes, line = _read_alone(read, path)
            wrong += is_wrong(seconds, megabytes, line)
            line = line.replace(str(folder), ".")
            print(f"{what:44}{size:10}{seconds:9.2f}{megabytes:7.0f}  {line[:160]}", flush=True)
    print(f"{len(FILES)} files, {wrong} that were accepted, took too long or too much, or ended the process")
    return 1 if wrong else 0


def is_wrong(seconds: float, megabytes: float, line: str) -> bool:
    """Whether a file was answered otherwise than by a line, soon and within little memory."""
    return seconds > SECONDS or megabytes > MEGABYTES or line.startswith("!")


def _read_alone(read: Callable[[Path], object], path: Path) -> tuple[float, float, str]:
    """Seconds, megabytes beyond those before, and the line; a line with ``!`` says what went wrong."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_answer, args=(read, path, there))
    start = time.monotonic()
    process.start()
    there.close()
    try:
        if here.poll(WAIT_S):
            return here.recv()
        return time.monotonic() - start, 0.0, f"! no answer in {WAIT_S:.0f} s"
    except EOFError:
        process.join()
        return time.monotonic() - start, 0.0, f"! ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _answer(read: Callable[[Path], object], path: Path, to: Connection) -> None:
    start, before = time.monotonic(), _peak()
    try:
        read(path)
        line = "! accepted"
    except ConfigError as error:
        line = str(error)
    except BaseException as error:
        line = f"! {type(error).__name__}: {error}"
    to.send((time.monotonic() - start, _peak() - before, line))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def pth(pickled: bytes) -> Callable[[Path], None]:
    """A file of ``torch.save`` with this pickle."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", pickled)
            archive.writestr("x/data/0", bytes(16))

    return make


def named(key: bytes) -> bytes:
    """The pickle of a dictionary with this key."""
    return b"\x80\x02}" + key + b"Ns."


def npz(**headers: tuple[str, tuple[int, ...]]) -> Callable[[Path], None]:
    """Arrays of zeros as their headers say them, compressed."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, (kind, shape) in headers.items():
                head = io.BytesIO()
                described = {"descr": kind, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(head, described)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    entry.write(head.getvalue())
                    left = int(np.prod(shape, dtype=object)) * np.dtype(kind).itemsize
                    for start in range(0, left, 1 << 20):
                        entry.write(bytes(min(left - start, 1 << 20)))

    return make


def parquet(rows: int, **columns: object) -> Callable[[Path], None]:
    """A table of equal rows."""

    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        def repeated(value: object) -> pa.DictionaryArray:
            return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))

        made = pa.table({name: [v] if rows == 1 else repeated(v) for name, v in columns.items()})
        pa.parquet.write_table(made, path, compression="zstd", store_schema=False)

    return make


def picture(path: Path) -> None:
    """PNG whose header says 50,000 by 50,000 pixels."""
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    raw[16:24] = (50_000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(bytes(raw[12:29])).to_bytes(4, "big")
    for label in ("a", "b"):
        (path.parent / label).mkdir()
        (path.parent / label / "1.png").write_bytes(bytes(raw))


def safetensors(path: Path) -> None:
    """A header that says a terabyte of numbers."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))


def msgpack(path: Path) -> None:
    """A map of four billion entries."""
    path.write_bytes(b"\xdf\xff\xff\xff\xff")


def arrays(path: Path) -> object:
    """Reads ``train.npz``."""
    return load_source(Data("arrays", data_dir=str(path.parent)))


def table(path: Path) -> object:
    """Reads a table."""
    return load_source(Data("table", table=str(path)))


def images(path: Path) -> object:
    """Reads a folder of images."""
    return load_source(Data("folder", data_dir=str(path.parent)))


def weights(path: Path) -> object:
    """Reads a file of weights."""
    return load_weights(path, WANTED)


def state_dict(path: Path) -> object:
    """Reads a file of ``torch.save``."""
    return read_state_dict(path, "config.weights")


FILES: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], object]]] = {
    "pth: a key of tuples that share 2**60": ("w.pth", pth(named(SHARED)), state_dict),
    "pth: a key of tuples, 2 MB deep": ("w.pth", pth(named(b"(" * 1_000_000 + b"t" * 1_000_000)), state_dict),
    "pth: a key of tuples, 0.8 MB deep": ("w.pth", pth(named(b"(" * 400_000 + b"t" * 400_000)), state_dict),
    "pth: a value of lists, 0.8 MB deep": (
        "w.pth",
        pth(b"\x80\x02}X\x01\0\0\0w" + b"(" * 400_000 + b"l" * 400_000 + b"s."),
        state_dict,
    ),
    "pth: a set of tuples that share 2**60": ("w.pth", pth(b"\x80\x04\x8f(" + SHARED + b"\x90."), state_dict),
    "pth: a storage named by such tuples": (
        "w.pth",
        pth(b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\n" + SHARED + b"X\x03\0\0\0cpuK\x04tQ."),
        state_dict,
    ),
    "pth: memory for a billion objects": ("w.pth", pth(b"\x80\x02]r\x00\x00\x00\x40."), state_dict),
    "pth: a text of a terabyte": ("w.pth", pth(b"\x80\x04\x8d\0\0\0\0\0\x01\0\0"), state_dict),
    "pth: a function": ("w.pth", pth(pickle.dumps({"w": print}, 2)), state_dict),
    "npz: one gigabyte of zeros": (
        "train.npz",
        npz(images=("|u1", (1024, 1024, 1024)), labels=("<i8", (1024,))),
        arrays,
    ),
    "npz: a billion ids without bytes": (
        "train.npz",
        npz(images=("|u1", (4, 8, 8)), labels=("<i8", (4,)), ids=("<U0", (10**9,))),
        arrays,
    ),
    "npz: a billion labels without bytes": (
        "train.npz",
        npz(images=("|u1", (4, 8, 8)), labels=("<i8", (10**9, 0))),
        arrays,
    ),
    "parquet: ten million equal rows": ("x.parquet", parquet(10_000_000, path="a.png", label=1), table),
    "parquet: a text of 50 kB, 20,000 times": ("x.parquet", parquet(20_000, path="x" * 50_000, label=1), table),
    "parquet: a list of a million in one row": ("x.parquet", parquet(1, path="a.png", label=["1"] * 10**6), table),
    "png: 2,500 million pixels": ("1.png", picture, images),
    "safetensors: a terabyte": ("w.safetensors", safetensors, weights),
    "msgpack: four billion entries": ("w.msgpack", msgpack, weights),
}

if __name__ == "__main__":
    sys.exit(main())
