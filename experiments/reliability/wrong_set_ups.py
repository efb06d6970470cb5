"""Deletion requests that are set up wrong, by the real command: each must be refused, or end as not shown.

export TFDS_DATA_DIR=...
python experiments/reliability/wrong_set_ups.py --out runs/wrong

Images of cifar10_jpeg (CIFAR-10 encoded again, not the original pixels) of four classes: 1,000 that a ResNet-18 of
width 8 is trained on, once, 80 of them to be forgotten, and 300 held out. Each set-up is a folder of its own with what
an engineer would have there. Status 2 is a refusal before anything is trained, status 4 says that forgetting is not
shown; status 0 is right for the controls alone.

Beside what the command says stands what the new weights are really like, which no engineer could measure: with the
right preprocessing, on the very images that somebody asked to have forgotten, and on 1,000 images that no set-up uses.
A set-up whose outcome is recorded in --out is not run again. It takes two hours of one busy core.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reliability.photos import Case, World, correct, make_world, margins, write_case
from experiments.reliability.set_ups import SET_UPS, SetUp, turned_and_named

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Parses the arguments, makes the model, runs what is not recorded, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="names of set-ups, separated by commas")
    parser.add_argument("--trials", type=int, default=1, help="of calibration")
    args = parser.parse_args()
    set_ups = {one.name: one for one in SET_UPS}
    wanted = args.only.split(",") if args.only else list(set_ups)
    if unknown := set(wanted) - set_ups.keys():
        parser.error(f"--only: {', '.join(sorted(unknown))} unknown")
    args.out.mkdir(parents=True, exist_ok=True)

    world = None
    for name in wanted:
        record = args.out / name / "outcome.json"
        if not record.exists():
            world = world or make_world(args.out)
            outcome = run(set_ups[name], world, args.out, args.trials)
            record.write_text(json.dumps(outcome, indent=1) + "\n")
            print(f"{name}: status {outcome['status']}, {outcome['seconds']:.0f} s", file=sys.stderr, flush=True)
    print_table(args.out)


def auc(one: np.ndarray, other: np.ndarray) -> float:
    """Probability that one of the first lies above one of the second."""
    return float((one[:, None] > other).mean() + (one[:, None] == other).mean() / 2)


def truth(weights: dict[str, Any], case: Case, world: World) -> dict[str, float]:
    """AUC of the images really asked for against unseen ones, and accuracies in percent."""
    asked, asked_hits = margins(weights, case.asked)
    unseen, unseen_hits = margins(weights, world.unseen)
    stay = {photo.name for photo in world.forget + world.remain} - {photo.name for photo in case.asked}
    remain = correct(weights, tuple(photo for photo in world.forget + world.remain if photo.name in stay))
    hits = {"forget": asked_hits, "remain": remain, "unseen": unseen_hits}
    return {"auc": auc(asked, unseen), **{name: 100 * float(of.mean()) for name, of in hits.items()}}


def run(one: SetUp, world: World, out: Path, trials: int) -> dict[str, Any]:
    """Carries out one request: its status, what it said, and what the weights are really like before and after."""
    import flax.serialization

    start = Case(world.forget, world.remain, world.held_out, world.weights, world.forget)
    case = one.change(dataclasses.replace(start, words=(f"--config.calibration.trials={trials}",)), world)
    folder = out / one.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_case(folder, case)
    words = ["-m", "ltu_jax.unlearn", "--config", "mine.py", *case.words]
    words += ["--forget", "ids.txt", "--workdir", "out", "--cache", "../cache"]
    turned = one.change is turned_and_named  # its outputs are not in the order of the labels here
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    (folder / "said.txt").write_text(f"{done.stdout}\n--- stderr\n{done.stderr}")
    outcome = {
        "command": " ".join(["python", *words]),
        "status": done.returncode,
        "seconds": seconds,
        "wrote": (folder / "out").exists(),
        "before": {} if turned else truth(case.weights, case, world),
    }
    weights = folder / "out" / "request-1" / "weights" / "model.msgpack"
    if weights.exists() and not turned:
        outcome["after"] = truth(dict(flax.serialization.msgpack_restore(weights.read_bytes())), case, world)
    return outcome


def answer(text: str) -> str:
    """What a command said that matters, in one line: the refusal; or warnings and verdict with the first reason."""
    lines = [line.strip() for line in text.splitlines()]
    if errors := [line for line in lines if line.startswith("error: ")]:
        return errors[-1]
    wrapped, verdict = " ".join(lines).partition(" receipt in ")[0], "forgetting is"
    if verdict not in wrapped:
        return " ".join(lines[-3:])
    first, *more = wrapped.partition(verdict)[2].split(": - ")
    reasons = more[0].split(" - ") if more else []
    others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    before = wrapped.partition(verdict)[0]
    warnings = ["Warning:" + before.partition("Warning:")[2].rstrip()] if "Warning:" in before else []
    return " / ".join([*warnings, verdict + first + "".join(f": {reason}" for reason in reasons[:1]) + others])


def print_table(out: Path) -> None:
    """A row for each set-up that was run, and which of them ended with a status that is not right.

    Before and after: ``AUC`` of the images asked for against unseen ones, accuracies on them, on the others that the
    model was trained on, and on unseen ones, percent; where nothing was written there is nothing to compare.
    """
    print("| set-up | what is wrong | right | status | s | AUC | asked | stay | unseen | what was said |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong = []
    for one in SET_UPS:
        record = out / one.name / "outcome.json"
        if record.exists():
            outcome = json.loads(record.read_text())
            text = answer((out / one.name / "said.txt").read_text())
            right = " or ".join(map(str, one.expected))
            ends = [outcome["before"], outcome["after"]] if "after" in outcome else []
            figures = [" to ".join(f"{end['auc']:.2f}" for end in ends)]
            figures += [" to ".join(f"{end[name]:.0f}" for end in ends) for name in ("forget", "remain", "unseen")]
            status = outcome["status"]
            if status not in one.expected or (status == 2 and outcome["wrote"]):
                wrong.append(one.name)
                status = f"**{status}**"
            cells = [f"`{one.name}`", one.what, right, str(status), f"{outcome['seconds']:.0f}", *figures]
            print("| " + " | ".join([*cells, text.replace("|", "\\|")]) + " |")
    print(f"\nstatus not right: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()
