"""Older sweep files import these from here."""

from ltu_jax.sweeping import Row as Row
from ltu_jax.sweeping import Sweep as Sweep
