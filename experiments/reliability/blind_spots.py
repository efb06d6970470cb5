"""Changes that make results wrong without an error, and the test that must see each.

python experiments/reliability/blind_spots.py

Each change is made in a copy of the checkout, alone, and the test that is to see it runs there: red, as it must be, or
GREEN, a blind spot. The unchanged copy must pass. A change whose old text is not found exactly once ends the program:
the code has moved, and the change must follow it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Change(NamedTuple):
    """A change made by hand, and the tests that see it."""

    name: str
    edits: tuple[tuple[str, str, str], ...]  # file in ltu_jax, old text, new text
    test: str  # that must see it, as pytest names it within tests


SHADOWS, FIT, LTU, LOOP = "attackers/shadows.py", "attackers/fit.py", "methods/ltu.py", "unlearning/loop.py"
MONITOR, PREPARATION = "unlearning/monitor.py", "unlearning/preparation.py"
PROBLEM, RESULT = "unlearning/problem.py", "unlearning/result.py"
BEFORE, AFTER = '"before": problem.original, "after": state', '"before": state, "after": problem.original'

CHANGES = (
    # What a hostile tester changed together.
    Change(
        "shadow members and others swapped",
        ((SHADOWS, "state, one.members, one.others, key", "state, one.others, one.members, key"),),
        "attackers/test_shadows.py::test_attackers_learn_of_every_shadow_but_the_last_what_it_was_trained_on",
    ),
    Change(
        "the same, by its gap alone",
        ((SHADOWS, "state, one.members, one.others, key", "state, one.others, one.members, key"),),
        "unlearning/test_result.py::test_ltu_comes_far_nearer_to_retrain_than_the_original_is",
    ),
    Change(
        "the same, by the warning alone",
        ((SHADOWS, "state, one.members, one.others, key", "state, one.others, one.members, key"),),
        "unlearning/test_result.py::test_an_attacker_that_learned_something_knows_the_forget_rows_of_the_original",
    ),
    Change(
        "the held-out shadow is fitted on too",
        ((SHADOWS, "joined(outputs[:-1])", "joined(outputs)"),),
        "attackers/test_shadows.py::test_attackers_learn_of_every_shadow_but_the_last_what_it_was_trained_on",
    ),
    Change(
        "attackers are fitted on unaugmented outputs",
        ((SHADOWS, "augment=config.data.augment", 'augment="none"'),),
        "attackers/test_shadows.py::test_attackers_learn_from_outputs_that_are_augmented_as_in_unlearning",
    ),
    Change(
        "all anchors of z1 and z2 are row 0",
        ((LTU, "samplers, anchors, context.pool", "samplers, 0 * anchors, context.pool"),),
        "methods/test_ltu.py::test_each_query_set_is_drawn_by_its_own_function_around_the_forget_rows_of_the_step",
    ),
    Change(
        "LTU does not augment",
        (
            (
                LTU,
                "augmented(forget_aug, gather(visible.forget, anchors), self.augment)",
                "gather(visible.forget, anchors)",
            ),
            (LTU, "augmented(query_aug, gather(visible.remain, index), self.augment)", "gather(visible.remain, index)"),
        ),
        "methods/test_ltu.py::test_every_image_is_augmented_as_in_training",
    ),
    Change(
        "the monitor scores test rows",
        ((MONITOR, '"validation": splits.validation}', '"validation": splits.test}'),),
        "unlearning/test_monitor.py::test_a_run_is_scored_on_forget_validation_and_visible_rows_and_on_no_others",
    ),
    Change(
        "the monitor sees all of D_r",
        ((MONITOR, '"remain": splits.visible,', '"remain": splits.remain,'),),
        "unlearning/test_loop.py::test_neither_ltu_nor_what_scores_it_reads_hidden_or_test_rows",
    ),
    Change(
        "calibration sees all of D_r",
        (("deletion/calibration.py", "problem.splits, size", "dataclasses.replace(problem.splits, seen=None), size"),),
        "deletion/test_calibration.py::test_it_reads_forget_visible_and_validation_rows_and_no_others",
    ),
    Change(
        "UT counts compiling of the init",
        ((LOOP, "init_s=max(0.0, whole - clock.seconds)", "init_s=whole"),),
        "unlearning/test_loop.py::test_ut_is_the_time_of_init_and_steps_without_that_of_compiling_them",
    ),
    Change(
        "UT counts compiling of the steps",
        (("training/dispatch.py", "time.perf_counter() - compiled_at", "time.perf_counter() - start"),),
        "unlearning/test_loop.py::test_ut_is_the_time_of_init_and_steps_without_that_of_compiling_them",
    ),
    # Found after it.
    Change(
        "Retrain is trained on the rho subset",
        ((PREPARATION, "splits.remain, RETRAIN, i", "splits.visible, RETRAIN, i"),),
        "unlearning/test_preparation.py::test_every_model_is_trained_on_the_rows_that_its_name_says",
    ),
    Change(
        "shadows are trained on validation rows",
        ((PREPARATION, "(fit_on_shadows, trainer, reserve)", "(fit_on_shadows, trainer, splits.validation)"),),
        "unlearning/test_preparation.py::test_every_model_is_trained_on_the_rows_that_its_name_says",
    ),
    Change(
        "the AUC of attackers is that on the outputs that they were fitted on",
        ((SHADOWS, "_fitted(trainer, fitted_on, outputs[-1], start", "_fitted(trainer, fitted_on, fitted_on, start"),),
        "attackers/test_shadows.py::test_attackers_learn_of_every_shadow_but_the_last_what_it_was_trained_on",
    ),
    Change(
        "attackers of the original learn from the fifth that is to be kept",
        ((SHADOWS, "kept, fitted_on = (", "fitted_on, kept = ("),),
        "attackers/test_shadows.py::test_attackers_of_the_original_learn_from_four_fifths_and_are_measured_on_the_others",
    ),
    Change(
        "attackers learn from one batch of outputs alone",
        ((FIT, "(batch_size,), 0, len(sample))", "(batch_size,), 0, batch_size)"),),
        "attackers/test_fit.py::test_an_attacker_learns_from_all_outputs_that_it_is_given",
    ),
    Change(
        "all attackers have one bootstrap sample",
        ((FIT, "bank.params[name], outputs, one_key)", "bank.params[name], outputs, fit_key)"),),
        "attackers/test_fit.py::test_every_attacker_is_fitted_on_a_sample_of_its_own",
    ),
    Change(
        "attackers are asked about test rows",
        ((PROBLEM, "self.splits.forget, self.splits.validation", "self.splits.forget, self.splits.test"),),
        "unlearning/test_problem.py::test_attackers_are_asked_who_of_forget_and_validation_rows_is_a_member",
    ),
    Change(
        "forget rows count as non-members where attackers are asked",
        ((PROBLEM, "state, members, others, key))", "state, others, members, key))"),),
        "unlearning/test_problem.py::test_attackers_are_asked_who_of_forget_and_validation_rows_is_a_member",
    ),
    Change(
        "all query sets are drawn by the first function",
        ((LTU, "itertools.cycle(settings.samplers)", "itertools.repeat(settings.samplers[0])"),),
        "methods/test_ltu.py::test_each_query_set_is_drawn_by_its_own_function_around_the_forget_rows_of_the_step",
    ),
    Change(
        "support and query are always the same two attackers",
        ((LTU, "draw_pair(pair_key, ", "draw_pair(jax.random.key(0), "),),
        "methods/test_ltu.py::test_the_attackers_of_support_and_query_are_drawn_anew_each_step",
    ),
    Change(
        "rows of a class forgotten whole are brought to held-out rows of that class",
        ((LOOP, "if not len(splits.test_forgotten) or", "if len(splits.test_forgotten) or"),),
        "unlearning/test_loop.py::test_of_a_class_forgotten_whole_held_out_rows_are_those_of_others_that_bear_its_label",
    ),
    Change(
        "margins are compared with those of training mode",
        ((LTU, "batch.images, train=False)", "batch.images, train=True)"),),
        "methods/test_ltu_margins.py::test_how_far_a_row_is_off_is_seen_as_served_and_the_direction_is_that_of_training",
    ),
    Change(
        "margins are brought to those of held-out rows of any class",
        ((LTU, "matched_weights(labels, forget_labels, num_classes)", "matched_weights(labels, labels, num_classes)"),),
        "methods/test_ltu_margins.py::test_the_targets_are_the_originals_margins_of_class_matched_held_out_rows_by_rank",
    ),
    Change(
        "the margins of a batch are brought to those of other rows",
        ((LTU, "matching.targets[anchors]", "matching.targets[: len(anchors)]"),),
        "methods/test_ltu_margins.py::test_what_a_batch_is_compared_with_belongs_to_its_rows",
    ),
    Change(
        "the monitor forgets how well the original did",
        ((MONITOR, "{name: one.correct for", "{name: 0 * one.correct for"),),
        "unlearning/test_monitor.py::test_a_run_is_scored_on_forget_validation_and_visible_rows_and_on_no_others",
    ),
    Change(
        "a run warns of its last state, not of the one that it returns",
        ((LOOP, "judge.warnings(state)", "judge.warnings(run.state)"),),
        "unlearning/test_loop.py::test_a_judge_of_ones_own_says_which_state_is_kept_and_when_to_stop",
    ),
    Change(
        "the gap of the original is that of the run",
        ((RESULT, "gap(original, reference)", "gap(scores, reference)"),),
        "unlearning/test_result.py::test_the_original_and_the_unlearned_model_are_told_apart",
    ),
    Change(
        "the AUC after unlearning is that before it",
        ((RESULT, "problem.attackers_on(state)", "problem.attackers_on(problem.original)"),),
        "unlearning/test_result.py::test_the_original_and_the_unlearned_model_are_told_apart",
    ),
    Change(
        "the report shows before as after",
        (("unlearning/evidence.py", BEFORE, AFTER),),
        "unlearning/test_evidence.py::test_before_is_the_original_and_after_the_state_that_is_shown",
    ),
)


def main() -> int:
    """Runs the program; returns 1 if a change goes unseen."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unchanged = copy_with((), Path(folder))
        tests = sorted({change.test for change in CHANGES})
        if not passes(tests, unchanged):
            raise SystemExit("error: the tests do not pass on the unchanged code")
        print(f"{len(CHANGES)} changes; their {len(tests)} tests pass on the unchanged code", flush=True)
        unseen = 0
        for change in CHANGES:
            is_green = passes([change.test], copy_with(change.edits, Path(folder)))
            unseen += is_green
            print(f"{'GREEN' if is_green else 'red'} | {change.name} | {change.test}", flush=True)
    print(f"{len(CHANGES) - unseen} of {len(CHANGES)} are seen")
    return int(unseen > 0)


def copy_with(edits: Sequence[tuple[str, str, str]], folder: Path) -> Path:
    """A copy of the package and its tests in ``folder``, changed; the one before is replaced.

    Raises:
      SystemExit: if an old text is not found exactly once.
    """
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("ltu_jax", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, old, new in edits:
        path = copy / "ltu_jax" / file
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"error: {file}: {old!r} is there {text.count(old)} times; allowed: once")
        path.write_text(text.replace(old, new))
    return copy


def passes(tests: Sequence[str], copy: Path) -> bool:
    """Whether tests of a copy pass.

    Raises:
      SystemExit: if they did not run, or fail by anything but an assertion.
    """
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *(f"tests/{t}" for t in tests)]
    env = {**os.environ, "PYTHONPATH": str(copy), "JAX_COMPILATION_CACHE_DIR": str(copy.parent / "compiled")}
    env["COLUMNS"] = "300"  # else the summary is cut before the reason
    done = subprocess.run(words, cwd=copy, env=env, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    asserted = [line for line in failed if " - assert" in line or " - AssertionError" in line]
    if done.returncode not in (0, 1) or len(asserted) < len(failed):
        raise SystemExit(f"error: the tests could not judge:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
