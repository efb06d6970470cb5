"""What a command frees it uses again."""

import os
import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource
from ltu_jax.commands.memory import keep_freed
keep_freed()
new_pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 2**26
for _ in range(3):
    before = new_pages()
    b"x" * size  # filled, and freed at once
print(new_pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("own", [None, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_freed_memory_is_used_again_unless_the_environment_says_how(own):
    inherited = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and not k.startswith("MALLOC_")}
    said = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    set_up = {own: said[own]} if own else {}
    result = subprocess.run(
        [sys.executable, "-c", ALLOCATE], env={**inherited, **set_up}, capture_output=True, text=True, check=True
    )
    # Of its 64 MiB none is new, or all: 32 pages at least, however large the system makes them.
    assert int(result.stdout) < 10 if own is None else int(result.stdout) > 20
