"""A command that is to refuse a mistake: in a process of its own, with what it imported."""

import os
import re
import subprocess
import sys


def command(module, folder, *args):
    """The finished process; Python's import times are among what it said."""
    words = [sys.executable, "-X", "importtime", "-m", module, *args]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=os.environ, timeout=600)


def imports(done, *heavy):
    """Whether one of these packages was imported."""
    return bool(re.search(rf"\| +({'|'.join(heavy)})$", done.stderr, re.M))


def refusal(module, folder, *args):
    """The one line of a refusal with status 2 that printed and wrote nothing, and the process."""
    before = sorted(folder.rglob("*"))
    done = command(module, folder, *args)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2 and len(said) == 1, said
    assert sorted(folder.rglob("*")) == before and done.stdout == ""
    return said[0], done
