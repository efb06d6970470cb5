"""Reads what tables hold: SQLite, Parquet, Feather and ORC, whose values are compressed or not in one piece."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import numpy as np

from ltu_jax.deletion.leftovers.texts import GAP
from ltu_jax.deletion.leftovers.unpacking import Budget, BytesFile

SQLITE, ARROW = b"SQLite format 3\0", {b"PAR1": "parquet", b"ARROW1": "feather", b"ORC": "orc"}
_JOINED = 4 << 20
_STEPS = 1 << 20  # of SQLite's machine, each of which counts for a byte


def sqlite_values(data: np.ndarray, budget: Budget) -> Iterator[bytes]:
    """The values of all tables of a database, u8[n], joined together: blobs, and texts and numbers.

    Raises:
      sqlite3.Error, ValueError: if it cannot be read, or not as a whole.
      TooMuchError: if the budget ends.
    """
    raw = bytearray(data.tobytes())
    raw[18:20] = b"\1\1"  # else one that was written with a log cannot be opened from memory
    budget.spend(len(raw))
    base = sqlite3.connect(":memory:")
    try:
        base.deserialize(bytes(raw))
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 256 << 20)
        base.text_factory = bytes
        base.set_progress_handler(lambda: budget.spend(_STEPS), _STEPS)  # a column may be computed
        base.execute("PRAGMA trusted_schema = OFF")
        tables = base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
        freed = base.execute("PRAGMA freelist_count").fetchone()[0]
        for (name,) in tables:
            quoted = name.decode("utf-8", "replace").replace('"', '""')
            yield from _joined(base.execute(f'SELECT * FROM "{quoted}"'), budget)
        if freed:
            raise ValueError(f"{freed} pages that were freed: of these only what lies in one page")
    finally:
        base.close()


def _joined(rows: Any, budget: Budget) -> Iterator[bytes]:
    blobs: list[bytes] = []
    texts: list[bytes] = []
    size = 0
    for row in rows:
        for value in row:
            if isinstance(value, bytes) and b"\0" in value[:4096]:
                blobs.append(value)
            elif value is not None:
                texts.append(value if isinstance(value, bytes) else str(value).encode())
            size += len(value) if isinstance(value, bytes) else 8
        texts.append(b"\n")
        if size > _JOINED:
            budget.spend(size)
            yield from (GAP.join(blobs), b",".join(texts))
            blobs, texts, size = [], [], 0
    budget.spend(size)
    yield from (GAP.join(blobs), b",".join(texts))


def arrow_values(data: np.ndarray, kind: str, budget: Budget) -> Iterator[np.ndarray]:
    """The values of each column, as Arrow keeps them, one after another, u8[n]; and columns of numbers row by row.

    Raises:
      ValueError, OSError: if it cannot be read; pyarrow's errors are such.
      TooMuchError: if the budget ends.
    """
    import pyarrow as pa

    source = pa.PythonFile(BytesFile(data, budget), mode="r")
    for batch in _batches(source, kind, budget):
        budget.spend(batch.nbytes)
        for column in batch.columns:
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if isinstance(column, pa.ExtensionArray):
                column = column.storage
            yield from (np.frombuffer(buffer, np.uint8) for buffer in column.buffers() if buffer)
        named = [c for c in batch.columns if pa.types.is_integer(c.type) or pa.types.is_floating(c.type)]
        if len(named) > 1:
            table = np.column_stack([column.to_numpy(zero_copy_only=False) for column in named])
            yield np.ascontiguousarray(table).view(np.uint8).ravel()


def _batches(source: Any, kind: str, budget: Budget) -> Iterator[Any]:
    if kind == "parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(source) as file:
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            budget.spend(sum(group.total_byte_size for group in groups))  # before any is read
            yield from file.iter_batches(256)
    elif kind == "feather":
        import pyarrow as pa

        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        from pyarrow import orc

        file = orc.ORCFile(source)
        yield from (file.read_stripe(i) for i in range(file.nstripes))
