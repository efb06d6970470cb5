"""``python -m ltu_jax.tables``, by the path that recorded commands have."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ltu_jax.tables", run_name="__main__", alter_sys=True)
