"""Settings for the whole suite: rank promotion is an error, and machine code is made quickly."""

import gc
import importlib.metadata
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A quarter of the suite's time was LLVM's; what a program computes, and its convolutions, stay the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Half of the rest went into the emitters of MLIR. XLA of 0.10 has older ones; later it ends at a flag it does not know.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false".strip()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # One place for the machine code of all workers and of the commands that they start: they inherit it.
    _programs = tempfile.TemporaryDirectory(prefix="ltu_jax-programs-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(50_000, 20, 20)  # of a few million objects most stay: looking at them took a minute
