"""Changes that make results wrong without an error, and the test that must see each.

python experiments/reliability/blind_spots.py [NAME ...]

Each change is made in a copy of the checkout, alone, and the test that is to see it runs there. It is red if the test
fails, as it must; GREEN is a blind spot. An unchanged copy must be green. A change whose old text is not found exactly
once ends the program: the code has moved, and the change must follow it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Change(NamedTuple):
    """A change made by hand, and the tests that see it."""

    name: str
    edits: tuple[tuple[str, str, str], ...]  # file in ltu_jax, old text, new text
    test: str  # file, or file::name, in tests


SHADOWS, FIT, LTU = "attackers/shadows.py", "attackers/fit.py", "methods/ltu.py"
PROBLEM, RESULT, PREPARATION = "unlearning/problem.py", "unlearning/result.py", "unlearning/preparation.py"

CHANGES = (
    Change(
        "shadow members and others swapped",
        ((SHADOWS, "state, one.members, one.others, key", "state, one.others, one.members, key"),),
        "attackers/test_shadows.py",
    ),
    Change(
        "the held-out shadow is fitted on too",
        ((SHADOWS, "zip(*outputs[:-1], strict=True)", "zip(*outputs, strict=True)"),),
        "attackers/test_shadows.py",
    ),
    Change(
        "attackers fitted on unaugmented outputs",
        ((SHADOWS, "augment=config.data.augment", 'augment="none"'),),
        "attackers/test_shadows.py",
    ),
    Change(
        "all anchors of z1 and z2 are row 0",
        ((LTU, "samplers, anchors, context.pool", "samplers, 0 * anchors, context.pool"),),
        "methods/test_ltu.py",
    ),
    Change(
        "LTU does not augment",
        (
            (LTU, "augmented(forget_aug, gather(visible.forget, anchors), self.augment)", "gather(visible.forget, anchors)"),
            (LTU, "augmented(query_aug, gather(visible.remain, index), self.augment)", "gather(visible.remain, index)"),
        ),
        "methods/test_ltu.py",
    ),
    Change(
        "the monitor scores test rows",
        (("unlearning/monitor.py", "source.stored(splits.validation), source.labels[splits.validation]", "source.stored(splits.test), source.labels[splits.test]"),),
        "unlearning/test_monitor.py",
    ),
    Change(
        "the monitor sees all of D_r",
        (("unlearning/monitor.py", '"remain": visible.remain,', '"remain": source.rows(splits.remain),'),),
        "unlearning/test_monitor.py",
    ),
    Change(
        "calibration sees all of D_r",
        (("deletion/calibration.py", '"remain": splits.visible,', '"remain": splits.remain,'),),
        "deletion/test_calibration.py",
    ),
    Change(
        "UT counts compiling (init)",
        (("unlearning/loop.py", "init_s=max(0.0, whole - clock.seconds)", "init_s=whole"),),
        "unlearning/test_loop.py",
    ),
)
