"""The notes under a table, against arithmetic done by hand."""

import made_cells
import numpy as np
from made_cells import SEEDS


def test_under_the_table_stands_which_seeds_varied_and_both_parts_of_the_variance(show):
    assert (
        "Seeds: 3 (0, 1, 2); training, split and unlearning seed are one number, so all three varied together."
        in show(1, [made_cells.cell(seeds=seed) for seed in SEEDS])
    )
    seeds = [(pair, 1, u) for pair in range(2) for u in range(2)]
    # Mean gaps 1, 3 and 6, 8: MSW = 2, MSB = 25, between = (25 - 2) / 2.
    text = show(1, [made_cells.cell(off=(off,) * 4, seeds=s) for off, s in zip((1, 3, 6, 8), seeds, strict=True)])
    assert "Seeds: 4 triples; train varied (0, 1), split fixed (1), unlearn varied (0, 1)." in text
    assert f"FT {np.sqrt(11.5):.2f} and {np.sqrt(2):.2f}" in text
