"""The command line of the command that checks receipts: a mistake is one line."""

import os
import pathlib
import subprocess
import sys

import pytest

from ltu_jax import verify
from ltu_jax.setting import ConfigError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "receipt: none given"),
        (["a.json", "--evidence", "--hashes"], "--hashes: it leaves out what --evidence tests"),
        (
            ["a.json", "--evidence", "--tokens", "t", "--forget", "i"],
            "--evidence: --tokens writes tokens and judges no",
        ),
        (
            ["a.json", "--unsigned", "--public_key", "k.pem"],
            "--unsigned: it accepts any signature and --public_key asks",
        ),
        (["a.json", "b.json"], "'b.json': one word too many; allowed: see --help"),
        (["a.json", "--evidnce"], "--evidnce: no such flag; allowed: .*did you mean 'evidence'"),
        (["a.json", "--model"], "--model: expected one argument"),
        (["none.json"], "receipt: 'none.json' cannot be read"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    with pytest.raises(ConfigError, match=message) as caught:
        verify.main(words)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_no_receipt_is_told_before_jax_is_imported(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    code = (
        "import sys\nfrom ltu_jax import verify\n"
        "try:\n    verify.main(['none.json'])\n"
        "except verify.ConfigError as error:\n    print(error, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.startswith("receipt: 'none.json' cannot be read") and done.stdout.endswith(" False\n"), (
        done.stderr
    )
