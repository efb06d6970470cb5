"""Attacks on receipts and on what lies beside them, each with the command that a victim would give.

python experiments/reliability/hostile_receipts.py

A small request is made and signed, one of its own method too; then each attack is tried on a copy, and a line tells the
command's status, its last line, and whether it held. At the end comes what the receipt of a request tells somebody who
has the data, the old model and the configuration, and who tries lists of ids. Exit status 1 if anything did not hold.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from experiments.reliability.receipt_attacks import (
    NOT_IN_BODY,
    RECEIPT,
    SIGNED,
    Attack,
    attacks,
    forget,
    made,
    run,
    scenes,
    verify,
)


def tried(attack: Attack, scene: Path, base: Path) -> bool:
    """Tries an attack on a copy, and prints its line."""
    folder = Path(shutil.copytree(scene, base / "tried", symlinks=True))
    attack.do(folder)
    done = run(folder, *attack.words)
    lines = (done.stderr if done.returncode == 2 else done.stdout).strip().splitlines()
    shown = lines[0] if done.returncode == 1 and lines else (lines or [""])[-1]
    held = done.returncode == attack.status and len(lines) >= -attack.at and attack.line in lines[attack.at]
    held = held and "Traceback" not in done.stderr and attack.then(folder)
    show(attack.item, attack.name, done.returncode, shown, held)
    shutil.rmtree(folder)
    return held


def show(item: int, name: str, status: object, line: str, held: bool) -> None:
    """Prints a line of the table."""
    line = re.sub(rf"{re.escape(tempfile.gettempdir())}/[^/ ]*/[^/ ]*/", "", line)
    print(f"{item:>2} | {name} | {status} | {line[:150]} | {'held' if held else 'NOT held'}", flush=True)


def swapped_while_it_runs(scene: Path, base: Path) -> bool:
    """Puts another config.json there and back, as often as can be, while a check runs."""
    folder = Path(shutil.copytree(scene, base / "tried"))
    (folder / "evil").mkdir()
    path, stop, count = folder / "out" / "request-1" / "config.json", threading.Event(), 0
    honest = path.read_text()
    evil = honest.replace("experiments.reliability.small:build", "evil:build")

    def swap() -> None:
        nonlocal count
        while not stop.is_set():
            for content in (evil, honest):
                (folder / "evil" / "new").write_text(content)
                os.replace(folder / "evil" / "new", path)
                count += 1

    thread = threading.Thread(target=swap)
    thread.start()
    marks, statuses = 0, []
    for _ in range(3):
        done = run(folder, *verify(*SIGNED))
        statuses.append(str(done.returncode))
        marks += (folder / "MARK").exists()
    stop.set()
    thread.join()
    show(1, "config.json swapped while it is checked", ",".join(statuses), f"{count} times in three checks", not marks)
    shutil.rmtree(folder)
    return not marks


def envelope_is_standard(folder: Path) -> bool:
    """Whether openssl accepts the signature of the DSSE encoding that the documentation tells of."""
    if not shutil.which("openssl"):
        return True
    sealed = json.loads((folder / RECEIPT).read_text())
    left = {name: value for name, value in sealed.items() if name not in NOT_IN_BODY}
    body = (json.dumps(left, indent=2, sort_keys=True) + "\n").encode()
    kind = b"application/vnd.ltu-jax.receipt+json;version=2"
    (folder / "pae").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body))
    (folder / "sig").write_bytes(bytes.fromhex(sealed["signature"]["signature"]))
    command = "openssl pkeyutl -verify -rawin -pubin -inkey public.pem -sigfile sig -in pae"
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
    show(6, f"none: {command}", done.returncode, done.stdout.strip(), done.returncode == 0)
    return done.returncode == 0


def guesses(scene: Path, base: Path) -> bool:
    """What the receipt tells somebody who has all but salt and ids, and tries lists of ids; prints it."""
    theirs = json.loads((scene / RECEIPT).read_text())
    handed_out = [scene / "out" / name for name in ("ledger.jsonl", "request-1/receipt.json", "request-1/report.html")]
    told = "".join(path.read_text() for path in handed_out)
    all_hidden = True
    for name, words in (("ids", "the right list"), ("nearly", "one id of 20 is another"), ("others", "20 others")):
        folder = base / f"guess-{name}"
        folder.mkdir()
        for file in ("mine.py", "key.pem", f"{name}.txt"):
            shutil.copy(scene / file, folder)
        made(folder, *forget(f"{name}.txt"))
        ours = json.loads((folder / RECEIPT).read_text())
        made_files = [path for path in (folder / "out" / "request-1").rglob("*") if path.is_file()]
        hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in made_files}
        named = [name for path in made_files for name in re.findall(rb"[0-9a-f]{64}", path.read_bytes())]
        hashes |= {name.decode() for name in named}
        known = {theirs["model"]["before"]["tree_sha256"], theirs["config_sha256"], theirs["code"]["sha256"]}
        known |= {theirs["signature"]["public_key"], theirs["request"]["previous"]}
        found = sum(sha256 in told for sha256 in hashes - known)
        same, of = same_figures(*({name: one[name] for name in FIGURES} for one in (theirs, ours)))
        line = f"{found} of {len(hashes - known)} hashes; {same} of {of} figures are the same"
        show(9, f"a guess: {words}", "-", line, not found)
        all_hidden &= not found
    return all_hidden


FIGURES = ("evidence", "claim", "given_model", "copies", "report")
"""What a receipt tells in figures that the rows of its request decide."""


def same_figures(one: Any, two: Any) -> tuple[int, int]:
    """How many figures of two receipts are the same, and of how many."""
    if isinstance(one, (dict, list)) and type(one) is type(two):
        pairs = (
            [(one[key], two.get(key)) for key in one] if isinstance(one, dict) else list(zip(one, two, strict=False))
        )
        counts = [same_figures(*pair) for pair in pairs]
        return sum(same for same, _ in counts), sum(of for _, of in counts)
    is_figure = isinstance(one, (int, float)) and not isinstance(one, bool)
    return int(is_figure and one == two), int(is_figure)


def timed(folder: Path) -> bool:
    """Whether help and errors come at once, in time of the processor: other work has no say."""
    all_fast = True
    page = str(Path(RECEIPT).with_name("report.html"))
    commands = (("verify", "--help"), 0.5), (("verify", "none.json"), 2.0), (("verify", "--sgin"), 0.5)
    for words, limit in (*commands, (verify("--report", page, "--unsigned"), 2.0)):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run(folder, *words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        show(1, f"none: {' '.join(words)}", done.returncode, f"{seconds:.2f} s of CPU time", seconds < limit)
        all_fast &= seconds < limit
    return all_fast


def main() -> int:
    """Runs the program; returns 1 if an attack did not hold."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from ltu_jax.unlearning.result import now, provenance

    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        there = scenes(base)
        device = provenance(now())
        print(f"digits, {device['device']}, commit {device['commit']}, jax {device['versions']['jax']}")
        print("item | attack | status | line | held")
        held = [tried(attack, there[attack.scene], base) for attack in attacks()]
        held += [swapped_while_it_runs(there["one"], base), envelope_is_standard(there["one"])]
        held += [guesses(there["one"], base), timed(there["one"])]
    print(f"{sum(held)} of {len(held)} held")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
