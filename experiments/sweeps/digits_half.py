"""Table 1's right half on digits: every method, 50 % to forget, three seeds.

python -m ltu_jax.sweep experiments/sweeps/digits_half.py --out runs/digits-half --cache runs/digits-sweep/cache
python -m ltu_jax.tables 1 runs/digits-sweep/results.jsonl runs/digits-half/results.jsonl
"""

import dataclasses

from experiments.sweeps import digits
from ltu_jax.sweeping import Sweep


def get_sweep() -> Sweep:
    """The sweep."""
    return dataclasses.replace(digits.get_sweep(), forget_fractions=(0.5,))
