"""What tables hold comes out in one piece, whatever they compress and wherever they cut it."""

import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, orc, parquet

from ltu_jax.deletion.leftovers.tables import arrow_values, sqlite_values
from ltu_jax.deletion.leftovers.unpacking import Budget, TooMuchError

BLOBS = [np.random.default_rng(seed).bytes(20_000) for seed in range(3)]


def database(path, *more, rows=BLOBS):
    base = sqlite3.connect(path)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE 'of \"photos\"' (id TEXT, image BLOB, width INTEGER)")
    base.executemany(
        "INSERT INTO 'of \"photos\"' VALUES (?, ?, 32)", [(f"id {k}", blob) for k, blob in enumerate(rows)]
    )
    base.commit()
    for command in more:
        base.execute(command)
        base.commit()
    base.close()
    return np.fromfile(path, np.uint8)


def test_blobs_over_many_pages_come_in_one_piece(tmp_path):
    data = database(tmp_path / "a.db")
    assert BLOBS[0] not in data.tobytes()
    out = b"".join(sqlite_values(data, Budget(len(data))))
    assert all(blob in out for blob in BLOBS) and b"id 2,32" in out


def test_pages_that_were_freed_are_told(tmp_path):
    data = database(tmp_path / "a.db", "DELETE FROM 'of \"photos\"' WHERE id = 'id 1'")
    out = []
    with pytest.raises(ValueError, match="pages that were freed"):
        out.extend(sqlite_values(data, Budget(len(data))))
    assert BLOBS[0] in b"".join(out) and BLOBS[1] not in b"".join(out)


def test_a_computed_column_cannot_run_on(tmp_path):
    data = database(
        tmp_path / "a.db", "CREATE TABLE t (a, b AS (hex(zeroblob(200000000))))", "INSERT INTO t VALUES (1)"
    )
    with pytest.raises((sqlite3.Error, TooMuchError)):
        list(sqlite_values(data, Budget(0)))


@pytest.mark.parametrize("kind", ["parquet", "feather", "orc"])
def test_columns_come_in_one_piece(tmp_path, kind):
    column = [{"bytes": blob, "path": f"{k}.png"} for k, blob in enumerate(BLOBS)]
    table = pa.table({"image": column, "pixels": [list(blob[:500]) for blob in BLOBS], "id": ["x", "y", "a name"]})
    write = {"parquet": parquet.write_table, "feather": feather.write_feather, "orc": orc.write_table}[kind]
    write(table, str(tmp_path / "t"), compression="zstd")
    data = np.fromfile(tmp_path / "t", np.uint8)
    out = b"\0".join(values.tobytes() for values in arrow_values(data, kind, Budget(len(data))))
    assert all(blob in out for blob in BLOBS) and b"a name" in out
    assert np.frombuffer(BLOBS[1][:500], np.uint8).astype(np.int64).tobytes() in out


def test_pixels_in_columns_come_row_by_row(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64))
    parquet.write_table(pa.table({f"p{k}": pixels[:, k] for k in range(64)}), str(tmp_path / "t"))
    data = np.fromfile(tmp_path / "t", np.uint8)
    assert pixels.tobytes() in b"\0".join(v.tobytes() for v in arrow_values(data, "parquet", Budget(len(data))))


def test_what_claims_too_much_is_not_read(tmp_path):
    parquet.write_table(pa.table({"x": np.zeros(40_000_000, np.int64)}), str(tmp_path / "t"))
    data = np.fromfile(tmp_path / "t", np.uint8)
    assert len(data) < 1_000_000
    budget = Budget(0)
    budget.left = 1 << 20
    with pytest.raises(TooMuchError):
        list(arrow_values(data, "parquet", budget))
