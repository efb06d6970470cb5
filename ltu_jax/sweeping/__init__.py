"""Sweeps: what a sweep file is made of, ``Row`` and ``Sweep``, and what runs it."""

from ltu_jax.sweeping.grid import Row, Sweep

__all__ = ["Row", "Sweep"]
