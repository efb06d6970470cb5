"""An invented deletion request with realistic figures: nothing was trained and no request was made."""

import math

import numpy as np

from ltu_jax.deletion.notice import shown_tries
from ltu_jax.deletion.notice_measured import sureness

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def made_receipt(earlier=True, before=True):
    """What ``receipt.json`` holds before it is sealed: every figure occurs once, so that it can be looked for."""
    shown = {
        "rows": {"forget": 120, "remain": 1500, "held_out": 900} | ({"earlier": 75} if earlier else {}),
        "level": 95,
        "fewest": 5,
        "not_compared": 0,
        "chance_ks": 13.2,
        "before": {
            "forget_accuracy": [99.166667, 97.5, 100.0],
            "forget_confidence": [97.204871, 95.911314, 98.341702],
            "remain_accuracy": [99.4, 98.983333, 99.766667],
            "remain_confidence": [97.812365, 97.45211, 98.137741],
            "held_out_accuracy": [83.222222, 80.777778, 85.666667],
            "held_out_confidence": [77.640118, 75.518824, 79.803311],
            "attack_auc": [0.736142, 0.692381, 0.779405],
            "attack_ks": [36.811905, 32.164286, 46.933333],
        },
        "after": {
            "forget_accuracy": [80.833333, 73.333333, 87.5],
            "forget_confidence": [74.418832, 68.837721, 79.701123],
            "remain_accuracy": [98.133333, 97.4, 98.8],
            "remain_confidence": [94.918007, 94.288251, 95.517362],
            "held_out_accuracy": [81.888889, 79.333333, 84.444444],
            "held_out_confidence": [75.330211, 73.142205, 77.490816],
            "attack_auc": [0.508317, 0.453212, 0.562778],
            "attack_ks": [9.652381, 9.114286, 20.552381],
        },
        "classes": [],
    }
    if earlier:
        shown["before"] |= {
            "earlier_attack_auc": [0.521904, 0.451387, 0.590816],
            "earlier_accuracy": [82.7, 73.3, 90.7],
        }
        shown["after"] |= {"earlier_attack_auc": [0.534466, 0.465531, 0.604127], "earlier_accuracy": [84.0, 76.0, 92.0]}
    # Of 90 images never shown and 150 that stay of each class so many are right; cat and bird lose most.
    held_out = [(79, 78), (83, 83), (68, 61), (59, 50), (70, 71), (66, 66), (79, 78), (77, 76), (84, 84), (84, 90)]
    remain = [(150, 149), (150, 150), (148, 144), (147, 138), (149, 148), (148, 146), (150, 149), (149, 149)]
    remain += [(150, 150), (150, 149)]
    for label, name in enumerate(CLASSES):
        counts = {"remain": (remain[label], 150), "held_out": (held_out[label], 90)}
        row = {
            "label": label,
            "name": name,
            "forgotten": (9, 8, 14, 31, 12, 16, 7, 10, 6, 7)[label],
        }
        shown["classes"].append(row | {n: [round(100 * r / of, 6) for r in right] for n, (right, of) in counts.items()})
    if not before:
        shown["before"] = None
        for row in shown["classes"]:
            for name in ("remain", "held_out"):
                row[name][0] = None
    return {
        "schema": 2,
        "request": {
            "number": 3 if earlier else 1,
            "count": 120,
            "repeated": 4 if earlier else 0,
            "ids_sha256": "5d" * 32,
        },
        "model": {
            "before": {"salted_sha256": "1a" * 32} if earlier else {"tree_sha256": "1a" * 32, "file_sha256": "2b" * 32},
            "after": {"salted_sha256": "3c" * 32},
        },
        "method": "ltu",
        "calibration": "learning rate 0.00949, stopped at step 84 of 120: of 33 of 41 points that lose at most 2 points"
        " of accuracy the one at which the forget rows look most like held-out rows (5.6 points apart, 0.3 lost)",
        "guidance": "original",
        "evidence": shown,
        "remain_seen": True,
        "report": {"tries": shown_tries(made_calibration()), "sureness": sureness(made_confidence(before))},
        "warnings": [],
        "code": {
            "commit": "dc79a5619fd6",
            "versions": {"python": "3.11.7", "ltu-jax": "0.1.0", "jax": "0.10.2"},
            "device": "1 x NVIDIA H100",
        },
        "time": {"started": "2026-11-26T08:49:20+00:00", "finished": "2026-11-26T10:02:48+00:00", "unlearn_s": 412.0},
    }


def made_calibration():
    """What ``calibration.json`` holds: four tries, the hardest of which lose too much."""
    rng, trials = np.random.default_rng(5), []
    for rate, num_looks in ((0.003, 12), (0.00949, 12), (0.03, 9), (0.0137, 8)):
        looks = []
        for look in range(num_looks):
            hard = rate * 100 * (look + 1)
            ks = 3 + 22 * math.exp(-hard / 4.2) + max(0.0, hard - 10) * 0.7 + rng.normal(0, 0.5)
            remain, validation = 99.4 - 0.14 * hard - 0.008 * hard**2, 83.0 - 0.1 * hard - 0.011 * hard**2
            remain, validation = remain + rng.normal(0, 0.12), validation + rng.normal(0, 0.3)
            lost = max(0.0, 99.4 - remain - 0.5, 83.0 - validation - 1.6)
            looks.append(
                {
                    "step": 10 * (look + 1),
                    "forget": 99.0 - 2 * hard,
                    "remain": remain,
                    "validation": validation,
                    "lost": lost,
                    "ks": ks,
                    "auc": 0.5 + ks / 100,
                    "distance": ks + 10 * max(0.0, lost - 2.0),
                }
            )
        best = min(range(num_looks), key=lambda i, looks=looks: looks[i]["distance"])
        trials.append(
            {"learning_rate": rate, "num_steps": 120, "looks": looks, "best": best, "distance": looks[best]["distance"]}
        )
    chosen = min(range(len(trials)), key=lambda i: trials[i]["distance"])
    original = {"remain": 99.4, "validation": 83.0}
    return {"original": original, "tolerance": 2.0, "trials": trials, "chosen": chosen, "why": "as told"}


def made_confidence(before=True):
    """How sure the model is of 120 images to be forgotten, before and after, and of 900 never shown."""
    rng = np.random.default_rng(7)
    confidence = {
        "before": rng.beta(14, 0.5, 120),
        "after": rng.beta(1.9, 0.6, 120),
        "held out": rng.beta(1.9, 0.6, 900),
    }
    return confidence if before else {name: confidence[name] for name in ("after", "held out")}


def made_images(num=4):
    """Invented images to be forgotten, as ``notice.render_images`` takes them."""
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (num, 8, 8, 3), np.uint8)
    return [(f"user-{i:04d}", pixels[i], i, 0.99 - i / 100, 0.31 + i / 100) for i in range(num)]
