"""The package ``experiments`` for ``python experiments/benchmarks/NAME.py``, which searches this folder alone."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1])]
