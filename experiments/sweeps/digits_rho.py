"""Table 2 on digits: the methods that can work with a part of the remaining rows, at rho 0.1 and 0.3, three seeds.

python -m ltu_jax.sweep experiments/sweeps/digits_rho.py --out runs/digits-rho --cache runs/digits-sweep/cache
python -m ltu_jax.tables 2 runs/digits-rho/results.jsonl

Settings are those tuned at rho 1 (LTU's at 0.3). Each baseline has two rows: one sees the subset once per epoch, as
published; the other repeats it until an epoch has as many remaining images as at rho 1.
"""

import dataclasses
import json

from experiments.sweeps import digits
from ltu_jax.sweeping import Row, Sweep

SHOWN = ("FT", "RandL", "BadT", "SalUn", "LTU")


def get_sweep() -> Sweep:
    """The sweep; with untuned settings until tuned ones exist."""
    whole = digits.get_sweep()
    tuned = json.loads(digits.TUNED.read_text())["rows"] if digits.TUNED.exists() else {}
    rows = []
    for row in whole.rows:
        if row.label in SHOWN:
            settings = {**row.settings, **tuned.get(row.label, {}).get("best", {})}
            rows.append(Row(row.label, row.method, settings))
            if row.label != "LTU":  # which sees as many at any rho
                repeated = {**settings, "method.remain_per_forget": 7 / 3}  # 210 remaining rows, 90 to forget
                rows.append(Row(f"{row.label} (repeated)", row.method, repeated))
    return dataclasses.replace(whole, rows=rows, remain_fractions=(0.1, 0.3), tuned=None, tuning_seeds=())
