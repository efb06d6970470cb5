"""``python -m ltu_jax.tune``, by the path that recorded commands have."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ltu_jax.tune", run_name="__main__", alter_sys=True)
