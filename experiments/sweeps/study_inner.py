r"""The study of the inner rate: LTU with meta-optimization at rates from 0.003 to 0.1, else as searched; five seeds.

export TFDS_DATA_DIR=...
python -m ltu_jax.sweep experiments/sweeps/study_inner.py --out runs/study_inner --cache runs/study/cache
python experiments/differences.py margin_forget runs/study_inner/results.jsonl
"""

import dataclasses

from experiments.sweeps import study_fractions, study_parts
from ltu_jax.sweeping import Row, Sweep

RATES = (0.003, 0.01, 0.03, 0.1)


def get_sweep() -> Sweep:
    """The sweep."""
    meta = study_parts.meta_and_projection()[-1]
    rows = [
        Row(f"{meta.label}, inner rate {rate:g}", "ltu", {**meta.settings, "method.inner_learning_rate": rate})
        for rate in RATES
    ]
    return dataclasses.replace(study_fractions.get_sweep(), rows=rows, seeds=range(3, 8), forget_fractions=(0.3,))
