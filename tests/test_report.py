"""``python -m ltu_jax.report``: the page is written whole or not at all, a mistake is one line."""

import re
import subprocess
import sys

import pytest
from made_runs import made_result, write_run

from ltu_jax import report
from ltu_jax.setting import ConfigError

BAD = {
    "no folder": ([], "folder: none given; allowed: one or more folders"),
    "no result": (["good", "empty"], "folder: 'empty' holds no result.json; allowed: "),
    "nowhere": (["nowhere"], "folder: 'nowhere' holds no result.json; allowed: "),
    "damaged": (["good", "damaged"], "folder: 'damaged' holds a damaged result.json (Unterminated string"),
    "half": (["half"], "folder: 'half' holds a damaged result.json (splits_sha256, rho missing"),
    "unknown flag": (["good", "--ot=a.html"], "--ot: no such flag; allowed: help, out; did you mean 'out'?"),
    "no file": (["good", "--out"], "--out: expected one argument; allowed: --out FILE.html"),
    "out nowhere": (["good", "--out=nowhere/a.html"], "--out: 'nowhere/a.html' cannot be written; allowed: a file in"),
    "out under a file": (["good", "--out=good/result.json/a.html"], "--out: 'good/result.json/a.html' cannot be"),
    "out a folder": (["good", "--out=folder.html"], "--out: 'folder.html' cannot be written; allowed: "),
    "out no page": (["good", "--out=good/result.json"], "--out: 'good/result.json' is no page; allowed: a file that"),
    "out a report": (["good", "--out=good/report.html"], "--out: 'good/report.html' is the report of one of the runs"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "damaged", "half", "folder.html"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "result.json").write_text('{"schema_version": 2, "met')
    half = {name: part for name, part in made_result().items() if name not in ("rho", "splits_sha256")}
    write_run(tmp_path / "half" / "run", half)
    (tmp_path / "half" / "run" / "result.json").rename(tmp_path / "half" / "result.json")
    good = write_run(tmp_path / "good", made_result(), epochs=7)
    (good / "report.html").write_text("its own")
    return tmp_path


def command(*arguments):
    """Runs the command where JAX cannot be imported: neither a mistake nor a page needs it."""
    code = "import sys, runpy; sys.modules['jax'] = None; sys.argv[0] = 'ltu_jax.report'; "
    code += "runpy.run_module('ltu_jax.report', run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_names_what_is_wrong_and_nothing_is_written(folder, name):
    arguments, message = BAD[name]
    before = contents(folder)
    with pytest.raises(ConfigError) as raised:
        report.main(arguments)
    assert str(raised.value).startswith(message)
    assert "; allowed: " in str(raised.value) and "\n" not in str(raised.value)
    assert contents(folder) == before


def test_a_mistake_is_one_line_on_standard_error_and_status_2(folder):
    done = command("good", "empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: folder: 'empty' holds no result.json; allowed: .*\n", done.stderr)


def test_help_says_what_it_does(folder):
    done = command("--help")
    assert done.returncode == 0 and not done.stderr
    assert "python -m ltu_jax.report" in done.stdout and "FOLDER" in done.stdout and "--out" in done.stdout


def test_the_page_is_written_without_jax(folder):
    done = command("good", "--out", "page.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 run compared in page.html\n", "")
    page = (folder / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert "href='good/report.html'" in page


def test_folders_may_stand_before_and_after_the_flag_and_one_named_twice_is_one_run(folder, capsys):
    write_run(folder / "other", made_result("ssd"))
    report.main(["good", "--out", "page.html", "other", "./good", str(folder / "good")])
    assert capsys.readouterr().out == "2 runs compared in page.html\n"


def test_without_out_the_page_has_a_name_of_its_own(folder):
    report.main(["good"])
    assert (folder / "comparison.html").exists()


def test_a_page_that_cannot_be_written_whole_is_not_there(folder, monkeypatch):
    (folder / "page.html").write_text("before")

    def full(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    before = contents(folder)
    with pytest.raises(ConfigError, match="--out: 'page.html' cannot be written .no space is left on the disk.; al"):
        report.main(["good", "--out=page.html"])
    assert contents(folder) == before
