"""Puts the programs of experiments/, which is no package, where the tests can import them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "experiments"))
