"""Settings for the whole suite: rank promotion is an error, and machine code is made quickly."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A quarter of the suite's time was LLVM's; what a program computes, and its convolutions, stay the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
