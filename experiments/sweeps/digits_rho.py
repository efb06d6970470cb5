"""Table 2 on digits: the methods that can do with a part of the remaining rows, at rho 0.1 and 0.3, three seeds.

python experiments/sweep.py experiments/sweeps/digits_rho.py --out runs/digits-rho --cache runs/digits-sweep/cache
python experiments/tables.py 2 runs/digits-rho/results.jsonl

Twice: with the subset seen once an epoch, as published, and with as many remaining images an epoch as at rho 1.
"""

import dataclasses

from grid import Row, Sweep
from sweeps import digits

SHOWN = ("FT", "RandL", "BadT", "SalUn", "LTU")


def get_sweep() -> Sweep:
    """The sweep."""
    whole = digits.get_sweep()
    rows = []
    for row in whole.rows:
        if row.label in SHOWN:
            rows.append(dataclasses.replace(row, remain_fraction=None))
            if row.label != "LTU":  # which sees as many at any rho
                repeated = {**row.settings, "method.remain_per_forget": 7 / 3}  # 210 remaining rows, 90 to forget
                rows.append(Row(f"{row.label} (repeated)", row.method, repeated))
    return dataclasses.replace(whole, rows=rows, remain_fractions=(0.1, 0.3))
