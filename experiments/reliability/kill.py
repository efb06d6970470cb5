"""Kills commands at random moments, starts them again, and compares what they come to with an undisturbed run.

python experiments/reliability/kill.py --out runs/kill --kills 200

Each job (a run, one whose training is recorded, a deletion request with its calibration, a sweep, a search for
settings) is begun, killed after a random time, begun again with the same command, killed again, ten times in all, and
then left to its end; one that came to its end before is compared too, and begun in a new folder. Three kills of four
are SIGKILL, of the process and all that it started; one is SIGTERM, of which the time it took is noted. Compared bit
for bit: models, originals, Retrains, attackers, metrics.jsonl, calibration.json and every result but for its times. The
same command again goes on.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent
CONFIG = HERE / "small.py"
TIMES = ("time", "provenance", "ut_minutes", "compile_s", "run_s", "seconds", "command", "date", "log")
"""Fields of a result that no two runs share."""
STARTING = "starting, reading"
SALTED = ("sha256", "ids_sha256")


class Job(NamedTuple):
    """A command, how long it takes undisturbed about, and how often it is killed in all, of a hundred kills."""

    words: list[str]
    seconds: float
    share: int


def jobs() -> dict[str, Job]:
    """What is killed; every path is relative, so that all of them say the same."""
    run = ["-m", "ltu_jax.unlearn", "--config"]
    sweep = str(HERE / "sweep_small.py")
    ids = [f"--forget={HERE / 'ids.txt'}", "--workdir", "out", "--cache", "cache"]
    return {
        "run": Job([*run, str(CONFIG), "--workdir", "run", "--cache", "cache"], 12, 40),
        "recorded": Job([*run, f"{CONFIG}:amnesiac", "--workdir", "run", "--cache", "cache"], 12, 10),
        "request": Job([*run, str(CONFIG), *ids], 14, 30),
        "sweep": Job([str(EXPERIMENTS / "sweep.py"), sweep, "--out", "sweep", "--workers", "1"], 30, 10),
        "tune": Job([str(EXPERIMENTS / "tune.py"), sweep, "--out", "tune/t.json", "--trials", "2"], 40, 10),
    }


def main() -> int:
    """Runs the program; 1 if anything came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="kills before a job is left to its end")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    noted, wanted = args.out / "kills.jsonl", {}
    done = [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []
    for name, job in jobs().items():
        for number in range(max(1, round(args.kills * job.share / 100 / args.each))):
            if any((one["job"], one["number"]) == (name, number) for one in done):
                continue
            if name not in wanted:
                wanted[name] = undisturbed(args.out, name, job)
            told = killed(args.out, name, job, number, args.each, wanted[name])
            done.append(told)
            with noted.open("a") as file:
                file.write(json.dumps(told) + "\n")
            print(name, number, told["differs"] or "bit-identical", flush=True)
    print(table(done))
    return 0 if not any(one["differs"] for one in done) else 1


def undisturbed(out: Path, name: str, job: Job) -> dict[str, Any]:
    """What a job comes to; where it was done before, what it came to then."""
    folder = out / f"undisturbed-{name}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        process = begin(folder, job, out)
        if process.wait():
            raise RuntimeError((folder / "said.txt").read_text()[-2000:])
        (folder / "done").touch()
    return outcome(folder)


def begin(folder: Path, job: Job, out: Path) -> subprocess.Popen:
    """Starts a job in its folder; what was compiled once is not compiled again."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "PYTHONPATH": str(EXPERIMENTS.parent),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str((out / "xla").absolute()),
    }
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            [sys.executable, *job.words], cwd=folder, env=os.environ | variables, stdout=said, stderr=said
        )


def killed(out: Path, name: str, job: Job, number: int, times: int, wanted: dict[str, Any]) -> dict[str, Any]:
    """Begins, kills and begins again; the stages it was killed in, and what was not as it should be at an end."""
    rng, folder, stages, terms, differs = random.Random(f"{name} {number}"), out / "now", [], [], []
    shutil.rmtree(folder, ignore_errors=True)
    while len(stages) < times:
        process, began = begin(folder, job, out), time.time()
        # Most of a start is imports: but for one in eight the time counts from the first thing that it works on.
        in_work, rest = rng.random() > 1 / 8, rng.uniform(0.0, 0.6) * job.seconds
        while process.poll() is None and in_work and stage(folder, began) == STARTING:
            time.sleep(0.05)
        until = time.time() + rest
        while process.poll() is None and time.time() < until:
            time.sleep(0.01)
        if process.poll() is not None:
            differs += ended(process, folder, wanted)
            shutil.rmtree(folder)
            continue
        stages.append(stage(folder, began))
        if rng.random() < 0.25:
            asked = time.monotonic()
            process.terminate()
            terms.append([process.wait(timeout=30), round(time.monotonic() - asked, 2)])
        else:
            for pid in [process.pid, *below(process.pid)]:
                with_pid(pid)
            process.wait()
    differs += ended(begin(folder, job, out), folder, wanted)
    return {"job": name, "number": number, "stages": stages, "terms": terms, "differs": differs[:5]}


def ended(process: subprocess.Popen, folder: Path, wanted: dict[str, Any]) -> list[str]:
    """What a job that came to its end left otherwise than it should be."""
    if process.wait():
        raise RuntimeError((folder / "said.txt").read_text()[-2000:])
    return differences(wanted, outcome(folder))


def with_pid(pid: int) -> None:
    """SIGKILL, unless it has ended by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def below(pid: int) -> Iterator[int]:
    """All that a process has started, in whatever session."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield from below(child)
        yield child


def stage(folder: Path, began: float) -> str:
    """What a job was doing when it was killed, from what it has written since it began."""
    # Folders come and go meanwhile: os.walk passes over those that are gone.
    there = [Path(here, name) for here, folders, files in os.walk(folder) for name in (*folders, *files)]
    now = [path for path in there if _time(path) >= began]
    unfinished = [(_time(path), part) for path in now for part in path.parts if part.endswith(".under_way")]
    if unfinished:
        return f"training: {max(unfinished)[1].split('-')[0]}"
    if any(path.name.startswith("trial-") for path in now):
        return "calibrating"
    if any(path.name in ("metrics.jsonl", "checkpoints") for path in now):
        return "unlearning"
    if any(path.name.startswith(("shadow", "retrain", "original", "recorded", "attackers", "scores")) for path in now):
        return "attackers and scores"
    return STARTING


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is gone meanwhile
        return 0.0


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a job has come to, by file, without its times."""
    from ltu_jax.interop.sealing import tree_sha256
    from ltu_jax.training.checkpoint import load

    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("files.json")):
        tree, _ = load(path.parent) if "checkpoints" not in path.parts else ({}, {})
        tree = {name: value for name, value in tree.items() if name != "seconds"}
        found[str(path.parent.relative_to(folder))] = tree_sha256(tree)
    for path in sorted(folder.rglob("*.json*")):
        if path.name in ("metrics.jsonl", "calibration.json", "result.json", "t.json") or path.name.startswith(
            "scores"
        ):
            found[str(path.relative_to(folder))] = [_plain(json.loads(line)) for line in _lines(path)]
    return found


def _lines(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _plain(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: _plain(value) for key, value in told.items() if key not in (*TIMES, *SALTED)}
    return [_plain(value) for value in told] if isinstance(told, list) else told


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what is not the same; checkpoints that are left are none."""
    names = sorted({*wanted, *found})
    return [name for name in names if "checkpoints/" not in name and wanted.get(name) != found.get(name)]


def table(done: list[dict[str, Any]]) -> str:
    """Kills by stage, ends that were bit-identical, and how long SIGTERM took."""
    count, ends = Counter(), Counter()
    for one in done:
        for what in one["stages"]:
            count[what] += 1
            ends[what] += not one["differs"]
    terms = [term for one in done for term in one["terms"]]
    lines = [f"{'killed while':32}  kills  ended bit-identical"]
    lines += [f"{what:32}  {number:5}  {ends[what]:5}" for what, number in sorted(count.items())]
    lines += [f"{'all':32}  {sum(count.values()):5}  {sum(ends.values()):5}"]
    if terms:
        told = Counter(status for status, _ in terms)
        lines.append(f"SIGTERM: {len(terms)}, {max(seconds for _, seconds in terms)} s at most; status {dict(told)}")
    lines.append(f"commands that ended otherwise: {sum(bool(one['differs']) for one in done)} of {len(done)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
