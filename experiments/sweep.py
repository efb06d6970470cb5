"""``python -m ltu_jax.sweep``, by the path that recorded commands have."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ltu_jax.sweep", run_name="__main__", alter_sys=True)
