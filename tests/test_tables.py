"""``python -m ltu_jax.tables``: a table on standard output, a mistake in one line."""

import json
import pathlib
import re
import subprocess
import sys

import made_cells
import pytest
from made_cells import SEEDS, read_table
from refused import command, imports

from ltu_jax import tables
from ltu_jax.setting import ConfigError
from ltu_jax.tabling import runs


def test_folders_of_single_runs_make_a_row_of_their_method(tmp_path, capsys):
    folders = []
    for seed in SEEDS:
        folder = tmp_path / f"d-{seed[0]}"
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(made_cells.cell(seeds=seed, method="finetune")["result"]))
        config = {"seed": seed[0], "seeds": dict.fromkeys(runs.SEEDS, seed[0]), "method": {"epochs": 3}}
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(str(folder))
    tables.main(["1", *folders])
    assert read_table(capsys.readouterr().out)["finetune, rho 1"]["UA"] == "12.00 ± 1.00 (1.00)"
    (folder / "config.json").write_text(json.dumps({**config, "method": {"epochs": 4}}))
    with pytest.raises(ConfigError, match="--config.method.epochs=3, --config.method.epochs=4"):
        tables.main(["1", *folders])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["1"], "results"),
        (["5", "x"], "table"),
        (["1", "no such file"], "no such file"),
        (["1", "x", "--picture", "a.pdf"], "--picture"),
        (["1", "x", "--picture", "no such folder/a.svg"], "--picture"),
        (["1", "x", "--format", "html"], "--format"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_it(capsys, arguments, field):
    with pytest.raises(ConfigError, match=field) as refused:
        tables.main(arguments)
    assert capsys.readouterr() == ("", "") and "\n" not in str(refused.value)


def test_help_and_a_mistake_do_not_wait_for_jax(tmp_path):
    shown, refused = (command("ltu_jax.tables", tmp_path, *words) for words in (["--help"], ["1", "nowhere"]))
    assert (shown.returncode, refused.returncode) == (0, 2) and "--picture" in shown.stdout
    assert re.search("^error: results: 'nowhere' cannot be read .*; allowed: ", refused.stderr, re.M)
    assert not imports(shown, "jax", "matplotlib") and not imports(refused, "jax", "matplotlib")


def test_the_picture_is_drawn_beside_the_table(tmp_path, capsys):
    path = made_cells.write(tmp_path / "r.jsonl", made_cells.noisy_cells(["FT", "LTU"], SEEDS))
    tables.main(["1", path, "--picture", str(tmp_path / "p.svg")])
    assert "FT, rho 1" in read_table(capsys.readouterr().out)
    assert {"FT", "LTU", "Original", "between two Retrains"} <= set(
        re.findall(r">([^<>]+)</text>", (tmp_path / "p.svg").read_text())
    )


def test_a_label_from_outside_does_nothing_to_the_terminal_and_a_command_is_whole(tmp_path, capsys):
    cell = made_cells.cell("\x1b[2J")
    cell["command"] += f" --config.data.name={'n' * 9000}"
    tables.main(["1", made_cells.write(tmp_path / "r.jsonl", [cell])])
    printed = capsys.readouterr().out
    assert r"\x1b[2J" in printed and "\x1b" not in printed and "n" * 9000 in printed


def test_the_path_in_a_checkout_is_the_same_command(tmp_path):
    path = made_cells.write(tmp_path / "r.jsonl", [made_cells.cell()])
    in_checkout = pathlib.Path(__file__).parents[1] / "experiments" / "tables.py"
    ways = ([in_checkout], ["-m", "ltu_jax.tables"])
    by_path, by_name = (subprocess.run([sys.executable, *way, "1", path], capture_output=True) for way in ways)
    assert by_path.returncode == 0 and by_path.stdout == by_name.stdout != b""
