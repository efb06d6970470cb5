"""What sweep and tune have in common on the command line: one line for a mistake, and the status of how they stop."""

import pytest

from ltu_jax.commands.shutdown import StoppedError
from ltu_jax.setting import ConfigError
from ltu_jax.sweeping import program


def ended_with(capsys, call, *arguments):
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    return ended.value.code, capsys.readouterr().err


def test_a_wrong_argument_is_one_line(capsys):
    status, said = ended_with(capsys, program.Parser("usage").parse_args, ["file.py", "--workers", "many"])
    assert status == 2 and said.startswith("error: argument --workers") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (ConfigError("--out: 'x'; allowed: y"), 2, "error: --out: 'x'; allowed: y\n"),
        (StoppedError(15), 143, "stopped; the same command goes on\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on\n"),
    ],
)
def test_how_it_ended_is_said_in_one_line_and_by_the_status(capsys, raised, status, said):
    def main(argv):
        raise raised

    assert ended_with(capsys, program.start, main) == (status, said)
    assert ended_with(capsys, program.start, lambda argv: 1) == (1, "")


def test_a_folder_is_made_and_what_can_be_none_is_refused(tmp_path):
    assert program.folder("--out", tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    for name in ("file", "file/under", "with*star"):
        with pytest.raises(ConfigError, match="^--out: .*; allowed: "):
            program.folder("--out", tmp_path / name)
    assert not (tmp_path / "with*star").exists()
