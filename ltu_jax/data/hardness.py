"""The table of how hard training rows are: ``python -m ltu_jax.difficulty`` writes it, ``data.difficulty`` names it."""

import csv
import io
import math
from collections.abc import Sequence

import numpy as np

from ltu_jax.safe_reading import read_text, reason
from ltu_jax.setting import ConfigError

FIELD = "config.data.difficulty"
COLUMNS = ("id", "iqr", "confidence")
ALLOWED = f"allowed: what python -m ltu_jax.difficulty wrote of these training rows, CSV with {', '.join(COLUMNS)}"


def text_of(ids: Sequence[str], iqr: np.ndarray, confidence: np.ndarray) -> str:
    """The contents of the file, a line for each row."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")  # ids are quoted: any text may be one
    writer.writerow(COLUMNS)
    writer.writerows(zip(ids, iqr.tolist(), confidence.tolist(), strict=True))
    return file.getvalue()


def read(path: str) -> dict[str, tuple[float, float]]:
    """LT-IQR and mean confidence of each id; other columns are not looked at.

    Raises:
      ConfigError: if the file cannot be read, lacks a column, names an id twice or has what is no number.
    """
    where = f"{FIELD}: {path!r}"
    try:
        lines = list(filter(None, csv.reader(io.StringIO(read_text(path), newline=""), strict=True)))
    except (OSError, ValueError, csv.Error) as error:
        why = str(error) if isinstance(error, csv.Error) else reason(error)
        raise ConfigError(f"{where} cannot be read ({why}); {ALLOWED}") from error
    header = lines[0] if lines else []
    if missing := [name for name in COLUMNS if header.count(name) != 1]:
        raise ConfigError(f"{where} has not one column {' and '.join(missing)}; {ALLOWED}")
    found: dict[str, tuple[float, float]] = {}
    for line in lines[1:]:
        cells = dict(zip(header, line, strict=False))
        name, iqr, confidence = cells.get("id", ""), _number(cells.get("iqr")), _number(cells.get("confidence"))
        if name in found:
            raise ConfigError(f"{where} has the id {name!r} twice; {ALLOWED}")
        if not (math.isfinite(iqr) and math.isfinite(confidence)):
            raise ConfigError(f"{where} has no two numbers for the id {name!r}; {ALLOWED}")
        found[name] = iqr, confidence
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
