"""Table 2 on digits: the methods that can do with a part of the remaining rows, at rho 0.1 and 0.3, three seeds.

python experiments/sweep.py experiments/sweeps/digits_rho.py --out runs/digits-rho --cache runs/digits-sweep/cache
python experiments/tables.py 2 runs/digits-rho/results.jsonl

At the settings that were tuned at rho 1 (LTU's at 0.3). Baselines twice: the subset seen once an epoch, as published,
and repeated until an epoch has as many remaining images as at rho 1.
"""

import dataclasses
import json

from experiments.grid import Row, Sweep
from experiments.sweeps import digits

SHOWN = ("FT", "RandL", "BadT", "SalUn", "LTU")


def get_sweep() -> Sweep:
    """The sweep; of untuned settings until there are tuned ones."""
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
