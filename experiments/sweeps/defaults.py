r"""LTU's defaults, nothing tuned, at 10, 30 and 50 % to forget: digits, seeds 100 to 119, never looked at before.

python -m ltu_jax.sweep experiments/sweeps/defaults.py --out runs/defaults
python experiments/defaults.py runs/defaults/results.jsonl
"""

from ltu_jax.sweeping import Row, Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return Sweep(
        config="experiments/configs/digits.py",
        rows=[Row("LTU", "ltu")],
        seeds=range(100, 120),
        forget_fractions=(0.1, 0.3, 0.5),
    )
