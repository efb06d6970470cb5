"""Files of answers: what is read of them, and what is refused, in one line."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.special
from made_outputs import C, made_outputs

from ltu_jax import safe_reading
from ltu_jax.auditing.answers import check_together, read_outputs
from ltu_jax.setting import ConfigError

ARRAYS = made_outputs(0)


def npz(path, arrays):
    np.savez(path, **arrays)
    return path


def table(arrays):
    """The columns of a Parquet file of these arrays, the rows of the sets mixed."""
    sets = [name for name in arrays if not name.endswith("_labels")]
    columns = {"set": np.repeat(sets, [len(arrays[name]) for name in sets])}
    columns["label"] = np.concatenate([arrays[f"{name}_labels"] for name in sets])
    values = np.concatenate([arrays[name] for name in sets])
    columns |= {"margin": values} if values.ndim == 1 else {f"logit_{c}": values[:, c] for c in range(values.shape[1])}
    mixed = np.argsort(np.concatenate([np.linspace(0, 1, len(arrays[name])) for name in sets]), kind="stable")
    return {name: column[mixed] for name, column in columns.items()}


def parquet(path, columns):
    pa.parquet.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), path)
    return path


def test_margins_are_the_log_odds_of_the_label():
    found = read_outputs(ARRAYS)
    for name in ("forget", "held_out", "remain", "test"):
        labels = ARRAYS[f"{name}_labels"]
        p = scipy.special.softmax(ARRAYS[name], axis=1)[np.arange(len(labels)), labels]
        np.testing.assert_allclose(found.rows[name].margin, scipy.special.logit(p), rtol=1e-9)
        np.testing.assert_array_equal(found.rows[name].correct, ARRAYS[name].argmax(axis=1) == labels)
    of_margins = read_outputs(made_outputs(0, margins=True))
    np.testing.assert_allclose(of_margins.rows["forget"].confidence, found.rows["forget"].confidence, rtol=1e-9)
    assert found.logits and not of_margins.logits


@pytest.mark.parametrize("margins", [False, True])
def test_both_kinds_of_file_and_arrays_are_the_same(tmp_path, margins):
    arrays = made_outputs(3, margins=margins)
    columns = table(arrays)
    if not margins:  # the order of the columns means nothing, and others are ignored
        columns = {"id": np.arange(len(columns["set"])).astype(str), **dict(reversed(columns.items()))}
    given = arrays, npz(tmp_path / "a.npz", arrays), str(parquet(tmp_path / "a.parquet", columns))
    first, *others = map(read_outputs, given)
    for other in others:
        assert other.rows.keys() == first.rows.keys() == {"forget", "held_out", "remain", "test"}
        for name, rows in first.rows.items():
            for one, same in zip(rows, other.rows[name], strict=True):
                np.testing.assert_array_equal(one, same)
            if not margins:
                np.testing.assert_array_equal(first.logits[name], other.logits[name])
        assert other.sha256() == first.sha256() != read_outputs(made_outputs(4, margins=margins)).sha256()


def changed(**arrays):
    return {name: array for name, array in (ARRAYS | arrays).items() if array is not None}


NAN, WRONG = ARRAYS["test"].copy(), ARRAYS["forget_labels"].copy()
NAN[3, 0] = np.nan
WRONG[[5, 6]] = -1, C
FAR = np.zeros((80, C))
FAR[7] = 1e308, -1e308, -1e308, -1e308
BAD = {
    "no set": (changed(held_out=None), "arrays lacks held_out; allowed: a .npz with forget,"),
    "no labels": (changed(test_labels=None), "arrays lacks test_labels; allowed: "),
    "unknown set": (changed(forgott=NAN), "arrays has 'forgott'; allowed: forget, forget_labels,"),
    "no rows": (changed(forget=NAN[:0], forget_labels=WRONG[:0]), "arrays, forget: 0 rows, 0 labels; allowed: as many"),
    "fewer labels": (changed(test_labels=WRONG[:79]), "arrays, test: 80 rows, 79 labels; allowed: as many of both"),
    "not finite": (changed(test=NAN), "arrays, test: 1 of 80 rows are not finite; allowed: finite answers"),
    "too far apart": (changed(test=FAR), "arrays, test: 1 of 80 rows are not finite; allowed: finite answers"),
    "labels of no class": (changed(forget_labels=WRONG), "arrays, forget: 2 of 120 labels are out of range; allow"),
    "labels of numbers": (changed(forget_labels=WRONG / 1), "arrays, forget: float64[120, 4] with labels float64[120]"),
    "one logit": (changed(test=NAN[:, :1]), "arrays, test: float64[80, 1] with labels int64[80]; allowed: logits"),
    "texts": (changed(test=NAN.astype(str)), "arrays, test: <U"),
    "classes differ": (changed(test=np.zeros((80, 9))), "arrays has 4 logits a row on forget and 9 logits on test"),
    "margins and logits": (changed(test=NAN[:, 1]), "arrays has 4 logits a row on forget and a margin on test;"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_answer_is_refused(name):
    arrays, message = BAD[name]
    with pytest.raises(ConfigError) as error:
        read_outputs(arrays, "references[2]")
    assert str(error.value).startswith(f"references[2]: {message}")
    assert "; allowed: " in str(error.value) and "\n" not in str(error.value)


def wrong_columns(**columns):
    return {name: column for name, column in (table(ARRAYS) | columns).items() if column is not None}


FILES = {
    "nowhere.npz": (None, "no such file"),
    "answers.csv": (b"set,label", "its name ends in '.csv'"),
    "empty.npz": (b"", "File is not a zip file"),
    "torn.parquet": (b"PAR1", "Parquet"),
    "no_label.parquet": (wrong_columns(label=None), "not one column label, but 'set', 'logit_0'"),
    "gap.parquet": (wrong_columns(logit_1=None), "not one column logit_1, but"),
    "no_answers.parquet": ({name: table(ARRAYS)[name] for name in ("set", "label")}, "not one column margin, but"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none_is_refused(tmp_path, name):
    content, why = FILES[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        parquet(tmp_path / name, content)
    with pytest.raises(ConfigError) as error:
        read_outputs(tmp_path / name, "target")
    assert str(error.value).startswith(f"target: '{tmp_path / name}' cannot be read (") and why in str(error.value)
    assert "; allowed: a .npz with forget" in str(error.value) and "\n" not in str(error.value)


def test_a_row_of_no_set_is_refused(tmp_path):
    sets = table(ARRAYS)["set"].astype(object)
    for value, message in ((None, "has 'None'; allowed: forget"), ("forgets", "has 'forgets'; allowed: forget")):
        path = parquet(tmp_path / "a.parquet", wrong_columns(set=np.append(sets[:-1], value)))
        with pytest.raises(ConfigError, match=message):
            read_outputs(path)


def test_a_small_archive_cannot_make_a_large_array(tmp_path, monkeypatch):
    """A header that claims eight megabytes, and one that has them in some kilobytes of nothing."""
    monkeypatch.setattr(safe_reading, "LARGEST", 2**20)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**20,)})
    for content in (header.getvalue(), header.getvalue() + bytes(2**23)):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("forget.npy", content)
        with pytest.raises(ConfigError, match=r"cannot be read \(.*claims 8388608"):
            read_outputs(tmp_path / "a.npz")


def test_models_of_other_rows_are_refused():
    target, reference = read_outputs(ARRAYS, "target"), made_outputs(1)
    labels = np.roll(reference["test_labels"], 1)
    half = {name: array[:40] if name.startswith("test") else array for name, array in reference.items()}
    for other, message in (
        (
            made_outputs(1, sets=("forget", "held_out")),
            "r: arrays has forget, held_out, the target forget, held_out, r",
        ),
        (reference | {"test_labels": labels}, "r: arrays, test: labels unlike the target's; allowed: the same rows"),
        (half, "r: arrays, test: 40 rows unlike the target's; allowed: the same rows in all files"),
        (
            {name: np.pad(a, [(0, 0), (0, 1)]) if a.ndim == 2 else a for name, a in reference.items()},
            "r: arrays: 5 classes, the target has 4; allowed: the same classes",
        ),
    ):
        with pytest.raises(ConfigError) as error:
            check_together(target, [read_outputs(other, "r")])
        assert str(error.value).startswith(message)
    check_together(target, [read_outputs(reference), read_outputs(made_outputs(2, margins=True))])


def test_a_model_that_is_given_twice_is_refused():
    """Also where other sets are not the same."""
    zero, one, two = (read_outputs(made_outputs(model), f"model {model}") for model in range(3))
    same = read_outputs(changed(test=ARRAYS["test"][::-1]), "same")
    message = "the target is never among its own references"
    for given in ((zero, [one, same]), (one, [zero, two, same]), (one, [zero], same)):
        with pytest.raises(ConfigError, match=f"same: arrays answers as model 0: arrays does, bit for bit.*{message}"):
            check_together(*given)
    check_together(zero, [one], same)  # the original itself is audited
