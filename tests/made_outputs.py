"""Answers of made-up models: rows of their own difficulty, which all models share; other classes on forget rows."""

import numpy as np

C = 4
SIZES = {"forget": 120, "held_out": 200, "remain": 90, "test": 80}


def made_outputs(model, shift=0.0, sets=("forget", "held_out", "remain", "test"), margins=False):
    """Arrays as an ``.npz`` holds them; margins on the forget rows are higher by ``shift`` nats.

    Args:
      model: its seed.
      shift: what is left of the forget rows.
      sets: of rows.
      margins: margins rather than logits.
    """
    rows, noise, found = np.random.default_rng(0), np.random.default_rng([1, model]), {}
    for name, size in SIZES.items():
        labels = rows.choice(C, size, p=[0.4, 0.4, 0.1, 0.1] if name == "forget" else [0.1, 0.2, 0.3, 0.4])
        difficulty = rows.normal(labels, 1.5)
        margin = difficulty + noise.normal(0, 0.7, size) + shift * (name == "forget")
        others = np.log(noise.dirichlet(np.full(C - 1, 3.0), size))  # their logsumexp is 0
        logits = np.insert(others.ravel(), np.arange(size) * (C - 1) + labels, margin).reshape(size, C)
        if name in sets:
            found |= {name: margin if margins else logits, f"{name}_labels": labels}
    return found
