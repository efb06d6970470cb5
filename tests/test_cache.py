"""The command line of the command that lists and empties a cache: a mistake is one line, and a cache is untouched."""

import subprocess
import sys

import pytest

from ltu_jax import cache
from ltu_jax.setting import ConfigError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "DIR: none given; allowed"),
        (["nowhere"], "DIR: 'nowhere' is no folder; allowed"),
        ([".", "more"], "'more': one word too many; allowed: see --help"),
        ([".", "--purg", "old"], "--purg: no such flag; allowed: .*did you mean 'purge'"),
        ([".", "--limit", "20"], None),
        ([".", "--limit", "twenty"], "--limit: 'twenty' is no size; allowed: a number with B, KB, MB, GB, TB"),
        ([".", "--limit", "-1GB"], "--limit: "),
        ([".", "--purge", "olld"], "--purge: 'olld' is nothing of this cache; allowed: .*did you mean 'old'"),
        ([".", "--purge"], "--purge: expected at least one argument"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    if message is None:
        assert cache.main(words) == 0
        return
    with pytest.raises(ConfigError, match=message) as caught:
        cache.main(words)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "size"), [("20GB", 20e9), ("1.5 mb", 1.5e6), ("7", 7.0), ("2TB", 2e12)])
def test_a_size_is_read_with_its_unit(text, size):
    assert cache._bytes(text) == size


def test_help_does_not_wait_for_jax():
    program = "import sys; from ltu_jax import cache; cache._parse(['.']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
