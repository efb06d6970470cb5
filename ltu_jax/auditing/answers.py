"""A model's answers on labelled rows from files, for models that were not made here; no JAX is needed."""

import hashlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltu_jax.config import MOST_CLASSES
from ltu_jax.data.arrays import check_sizes
from ltu_jax.data.tabular import read_parquet
from ltu_jax.evaluation.likeness import Predictions, predictions
from ltu_jax.safe_reading import check_claim
from ltu_jax.setting import ConfigError, allowed_names

SETS = ("forget", "held_out", "remain", "test")
NAMES = {rows: (rows, f"{rows}_labels") for rows in SETS}
_ALLOWED = (
    "allowed: a .npz with forget, forget_labels, held_out and held_out_labels, or a .parquet with set, label, and"
    " margin or logit_0, logit_1, ... (see ltu_jax.audit_outputs)"
)

Given = str | Path | Mapping[str, np.ndarray]
"""A file of answers, or its arrays by the names of an ``.npz``."""


class Outputs(NamedTuple):
    """What a model answers."""

    name: str  # for messages
    rows: dict[str, Predictions]  # of each set; of margins alone a row is right where p of its label is above 1/2
    logits: dict[str, np.ndarray]  # f[M, C] of each set; none where margins alone are known

    def sha256(self) -> str:
        """Hex, of margins and labels in 64 bits: a file and its arrays have the same."""
        parts = [part for rows in sorted(self.rows) for part in (self.rows[rows].margin, self.rows[rows].labels)]
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def read_outputs(given: Given, field: str = "outputs") -> Outputs:
    """A model's answers on each set of rows, from a file or from arrays; see ``outputs.audit_outputs``.

    Args:
      given: the path of a ``.npz`` or ``.parquet``, or its arrays.
      field: what messages call it.

    Raises:
      ConfigError: it cannot be read, lacks a set, or holds what is no answer.
    """
    arrays, where = (given, f"{field}: arrays") if isinstance(given, Mapping) else (None, f"{field}: {str(given)!r}")
    if arrays is None:
        path = Path(str(given)).expanduser()
        reader = {".npz": _arrays, ".parquet": _columns}.get(path.suffix.lower())
        try:
            if not reader or not path.is_file():
                raise ValueError("no such file" if reader else f"its name ends in {path.suffix!r}")
            arrays = reader(path)
        except Exception as error:  # NumPy, zipfile, zlib and Arrow raise a dozen kinds each
            raise ConfigError(f"{where} cannot be read ({' '.join(str(error).split())[:300]}); {_ALLOWED}") from error
    every = [name for names in NAMES.values() for name in names]
    if unknown := next((str(name) for name in arrays if name not in every), None):
        raise ConfigError(f"{where} has {unknown!r}; {allowed_names(unknown, every)}")
    needed = [names for rows, names in NAMES.items() if rows in SETS[:2] or set(names) & set(arrays)]
    if lacks := [name for names in needed for name in names if name not in arrays]:
        raise ConfigError(f"{where} lacks {' and '.join(lacks)}; {_ALLOWED}")
    rows, logits = {}, {}
    for name, of_labels in needed:
        values, labels = np.asarray(arrays[name]), np.asarray(arrays[of_labels])
        rows[name] = _predictions(f"{where}, {name}", values, labels)
        logits |= {name: values} if values.ndim == 2 else {}
    widths = {name: f"{logits[name].shape[1]} logits" if name in logits else "a margin" for name in rows}
    if other := next((name for name in rows if widths[name] != widths["forget"]), None):
        found = f"{widths['forget']} a row on forget and {widths[other]} on {other}"
        raise ConfigError(f"{where} has {found}; allowed: the same on all sets")
    return Outputs(where, rows, logits)


def check_together(target: Outputs, references: Sequence[Outputs], original: Outputs | None = None) -> None:
    """Refuses models that answer other rows than the target, and one that is given twice.

    Raises:
      ConfigError: of the first such model.
    """
    others = [*references, *([original] if original else [])]
    for model in others:
        if model.rows.keys() != target.rows.keys():
            found = f"{', '.join(model.rows)}, the target {', '.join(target.rows)}"
            raise ConfigError(f"{model.name} has {found}; allowed: the same sets in all files")
        for name, ours in target.rows.items():
            theirs = model.rows[name].labels
            is_same = len(theirs) == len(ours.labels) and np.array_equal(theirs, ours.labels)
            if not is_same:
                found = f"{len(theirs)} rows" if len(theirs) != len(ours.labels) else "labels"
                raise ConfigError(
                    f"{model.name}, {name}: {found} unlike the target's; allowed: the same rows in all files"
                )
        if target.logits and model.logits and model.logits["forget"].shape != target.logits["forget"].shape:
            classes = [one.logits["forget"].shape[1] for one in (model, target)]
            raise ConfigError(
                f"{model.name}: {classes[0]} classes, the target has {classes[1]}; allowed: the same classes"
            )
    every = [target, *others]
    for place, model in enumerate(every):
        for other in every[:place]:
            if other is target and model is original:
                continue  # it may be the original itself that is audited
            if all(np.array_equal(model.rows[name].margin, other.rows[name].margin) for name in SETS[:2]):
                raise ConfigError(
                    f"{model.name} answers as {other.name} does, bit for bit; allowed: different models, and the target"
                    " is never among its own references"
                )


def margins_alone(margins: np.ndarray, labels: np.ndarray) -> Predictions:
    """Predictions of which margins f[M] alone are known: a row is right where p of its label is above 1/2."""
    margin = margins.astype(np.float64)
    return Predictions(labels, margin > 0, np.exp(-np.logaddexp(0, -margin)), margin)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; those whose names mean nothing here are not read."""
    wanted = [name for names in NAMES.values() for name in names]
    check_sizes(path, wanted)
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] if name in wanted else np.empty(0) for name in names}


def _columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a Parquet file as the arrays of an ``.npz``."""
    import pyarrow as pa

    is_logit = re.compile("logit_(0|[1-9][0-9]{0,5})").fullmatch
    names, table = read_parquet(path, lambda name: name in ("set", "label", "margin") or bool(is_logit(name)))
    wanted = [f"logit_{place}" for place in range(sum(bool(is_logit(name)) for name in names))] or ["margin"]
    if wrong := [name for name in ("set", "label", *wanted) if names.count(name) != 1]:
        raise ValueError(f"not one column {wrong[0]}, but {', '.join(map(repr, names[:20]))}")
    check_claim(table.num_rows * 8 * (len(wanted) + 2), path)
    of_row = np.array(table.column("set").cast(pa.string()).to_pylist(), object)
    labels, values = table.column("label").to_numpy(), [table.column(name).to_numpy() for name in wanted]
    answers = values[0] if wanted == ["margin"] else np.stack(values, axis=1)
    return {
        name: array[of_row == rows]
        for rows in dict.fromkeys(of_row)
        for name, array in ((rows, answers), (f"{rows}_labels", labels))
    }


def _predictions(where: str, values: np.ndarray, labels: np.ndarray) -> Predictions:
    """Of logits f[M, C] or margins f[M]."""
    is_right = values.ndim == 1 or values.ndim == 2 and values.shape[1] >= 2
    if not (is_right and values.dtype.kind in "fiu" and labels.ndim == 1 and labels.dtype.kind in "iu"):
        found = f"{values.dtype}{list(values.shape)} with labels {labels.dtype}{list(labels.shape)}"
        raise ConfigError(f"{where}: {found}; allowed: logits [M, C], C >= 2, or margins [M], with whole labels [M]")
    if len(values) != len(labels) or not len(labels):
        raise ConfigError(f"{where}: {len(values)} rows, {len(labels)} labels; allowed: as many of both, one at least")
    classes = values.shape[1] if values.ndim == 2 else MOST_CLASSES
    if wrong := int(np.sum((labels < 0) | (labels >= classes))):
        raise ConfigError(f"{where}: {wrong} of {len(labels)} labels are out of range; allowed: 0 to {classes - 1}")
    with np.errstate(all="ignore"):  # what is not finite is refused below
        if values.ndim == 2:
            found = predictions(values, labels.astype(np.int64))
        else:
            found = margins_alone(values, labels.astype(np.int64))
    is_finite = np.isfinite(values).reshape(len(values), -1).all(axis=1) & np.isfinite(found.margin)
    if wrong := int(np.sum(~is_finite)):
        raise ConfigError(f"{where}: {wrong} of {len(labels)} rows are not finite; allowed: finite answers")
    return found
