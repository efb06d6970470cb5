"""How a command keeps the memory that it frees."""

import contextlib
import ctypes
import os

SETTINGS = {"M_TRIM_THRESHOLD": (-1, -1), "M_MMAP_MAX": (-4, 0), "M_ARENA_MAX": (-8, 1)}
"""Of glibc's ``mallopt(3)``, each with its number in malloc.h: nothing is given back, and there is one heap."""


def keep_freed() -> None:
    """Lets glibc keep memory that is freed, unless the environment has settings for it.

    On a CPU, XLA allocates the buffers of a program at each call. Given back and asked for again, every page of them is
    cleared by the system first, which takes a sixth of a training step. A process then keeps the most that it needed.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, TypeError, AttributeError):  # another system, another C library
        mallopt = ctypes.CDLL(None).mallopt
        for number, value in SETTINGS.values():
            mallopt(number, value)
