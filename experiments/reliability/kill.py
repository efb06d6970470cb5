"""Kills commands at random moments, starts them again, and compares the end with that of an undisturbed run.

python experiments/reliability/kill.py --out runs/kill --kills 200

Each job (a run, two seeds in one program, a run whose training is recorded, a deletion request with calibration, a
sweep, a search for settings) is started, killed after a random time and started again with the same command, until it
has been killed ten times; then it may end. A job that ends before it is killed is compared too, and then started in a
new folder. Three of four kills are SIGKILL, to the process and to all that it started; one is SIGTERM, and the time
until the process ends is recorded. Compared bit for bit: models, originals, Retrains, attackers, metrics.jsonl,
calibration.json and every result except its times. Start the same command again to continue.
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

DONE = (0, 4)
"""Exit statuses of a command that is done; 4 where forgetting is not shown."""
HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent
CONFIG = HERE / "small.py"
TIMES = ("time", "provenance", "ut_minutes", "compile_s", "run_s", "seconds", "command", "date", "log")
"""Fields of a result that differ between any two runs."""
STARTING = "starting, reading"
SALTED = ("sha256", "ids_sha256")


class Job(NamedTuple):
    """A command, about how many seconds it takes undisturbed, and its share of the kills in percent."""

    words: list[str]
    seconds: float
    share: int


def jobs() -> dict[str, Job]:
    """The jobs by name; their paths are relative, so that a job gives the same result in any folder."""
    run = ["-m", "ltu_jax.unlearn", "--config"]
    sweep = str(HERE / "sweep_small.py")
    two = ["--config.num_seeds=2", "--config.at_once=2"]
    ids = [f"--forget={HERE / 'ids.txt'}", "--workdir", "out", "--cache", "cache"]
    return {
        "run": Job([*run, str(CONFIG), "--workdir", "run", "--cache", "cache"], 12, 30),
        "together": Job([*run, str(CONFIG), *two, "--workdir", "run", "--cache", "cache"], 16, 10),
        "recorded": Job([*run, f"{CONFIG}:amnesiac", "--workdir", "run", "--cache", "cache"], 12, 10),
        "request": Job([*run, str(CONFIG), *ids], 14, 30),
        "sweep": Job(["-m", "ltu_jax.sweep", sweep, "--out", "sweep", "--workers", "1"], 30, 10),
        "tune": Job(["-m", "ltu_jax.tune", sweep, "--out", "tune/t.json", "--trials", "2"], 40, 10),
    }


def main() -> int:
    """Runs the program; returns 1 if any job ended differently."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="kills before a job is left to its end")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    records_file, expected = args.out / "kills.jsonl", {}
    done = [json.loads(line) for line in records_file.read_text().splitlines()] if records_file.exists() else []
    for name, job in jobs().items():
        for number in range(max(1, round(args.kills * job.share / 100 / args.each))):
            if any((record["job"], record["number"]) == (name, number) for record in done):
                continue
            if name not in expected:
                expected[name] = undisturbed(args.out, name, job)
            record = kill_repeatedly(args.out, name, job, number, args.each, expected[name])
            done.append(record)
            with records_file.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(name, number, record["differs"] or "bit-identical", flush=True)
    print(table(done))
    return 0 if not any(record["differs"] for record in done) else 1


def undisturbed(out: Path, name: str, job: Job) -> dict[str, Any]:
    """The outcome of a job that is not killed; it is not run again if it has ended before."""
    folder = out / f"undisturbed-{name}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        process = start(folder, job, out)
        if process.wait() not in DONE:
            raise RuntimeError((folder / "said.txt").read_text()[-2000:])
        (folder / "done").touch()
    return outcome(folder)


def start(folder: Path, job: Job, out: Path) -> subprocess.Popen:
    """Starts a job in its folder; all jobs share the compilation cache."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "PYTHONPATH": str(EXPERIMENTS.parent),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str((out / "xla").absolute()),
    }
    with (folder / "said.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, *job.words], cwd=folder, env=os.environ | variables, stdout=log, stderr=log
        )


def kill_repeatedly(
    out: Path, name: str, job: Job, number: int, times: int, expected: dict[str, Any]
) -> dict[str, Any]:
    """Starts and kills a job ``times`` times; returns the stages at the kills, and what differed at the end."""
    rng, folder, stages, terms, differs = random.Random(f"{name} {number}"), out / "now", [], [], []
    shutil.rmtree(folder, ignore_errors=True)
    while len(stages) < times:
        process, started = start(folder, job, out), time.time()
        # A start is mostly imports: for seven of eight kills the random time begins when the job starts to work.
        in_work, rest = rng.random() > 1 / 8, rng.uniform(0.0, 0.6) * job.seconds
        while process.poll() is None and in_work and stage(folder, started) == STARTING:
            time.sleep(0.05)
        until = time.time() + rest
        while process.poll() is None and time.time() < until:
            time.sleep(0.01)
        if process.poll() is not None:
            differs += differences_at_end(process, folder, expected)
            shutil.rmtree(folder)
            continue
        stages.append(stage(folder, started))
        if rng.random() < 0.25:
            sent = time.monotonic()
            process.terminate()
            terms.append([process.wait(timeout=30), round(time.monotonic() - sent, 2)])
        else:
            for pid in [process.pid, *descendants(process.pid)]:
                kill(pid)
            process.wait()
    differs += differences_at_end(start(folder, job, out), folder, expected)
    return {"job": name, "number": number, "stages": stages, "terms": terms, "differs": differs[:5]}


def differences_at_end(process: subprocess.Popen, folder: Path, expected: dict[str, Any]) -> list[str]:
    """Waits until a job ends; names of the results that differ from the expected ones."""
    if process.wait() not in DONE:
        raise RuntimeError((folder / "said.txt").read_text()[-2000:])
    return differences(expected, outcome(folder))


def kill(pid: int) -> None:
    """Sends SIGKILL, unless the process has already ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def descendants(pid: int) -> Iterator[int]:
    """All processes that a process has started, directly or not, in any session."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield from descendants(child)
        yield child


def stage(folder: Path, started: float) -> str:
    """What a job is doing, judged by the files that it has written since it was started."""
    # Folders come and go meanwhile: os.walk skips those that are gone.
    paths = [Path(here, name) for here, folders, files in os.walk(folder) for name in (*folders, *files)]
    now = [path for path in paths if _time(path) >= started]
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
    except OSError:  # deleted meanwhile
        return 0.0


def outcome(folder: Path) -> dict[str, Any]:
    """The results of a job by file, without times: hashes of saved trees, content of JSON files."""
    from ltu_jax.interop.sealing import tree_sha256
    from ltu_jax.training.checkpoint import load_tree

    results: dict[str, Any] = {}
    for path in sorted(folder.rglob("files.json")):
        tree, _ = load_tree(path.parent) if "checkpoints" not in path.parts else ({}, {})
        tree = {name: value for name, value in tree.items() if name != "seconds"}
        results[str(path.parent.relative_to(folder))] = tree_sha256(tree)
    for path in sorted(folder.rglob("*.json*")):
        if path.name in ("metrics.jsonl", "calibration.json", "result.json", "t.json") or path.name.startswith(
            "scores"
        ):
            results[str(path.relative_to(folder))] = [_plain(json.loads(line)) for line in _lines(path)]
    return results


def _lines(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if key not in (*TIMES, *SALTED)}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def differences(expected: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """Names of the results that differ; checkpoints that are left over do not count."""
    names = sorted({*expected, *results})
    return [name for name in names if "checkpoints/" not in name and expected.get(name) != results.get(name)]


def table(done: list[dict[str, Any]]) -> str:
    """Kills by stage, how many of them ended bit-identical, and how long SIGTERM took."""
    count, ends = Counter(), Counter()
    for record in done:
        for what in record["stages"]:
            count[what] += 1
            ends[what] += not record["differs"]
    terms = [term for record in done for term in record["terms"]]
    lines = [f"{'killed while':32}  kills  ended bit-identical"]
    lines += [f"{what:32}  {number:5}  {ends[what]:5}" for what, number in sorted(count.items())]
    lines += [f"{'all':32}  {sum(count.values()):5}  {sum(ends.values()):5}"]
    if terms:
        statuses, longest = Counter(status for status, _ in terms), max(seconds for _, seconds in terms)
        lines.append(f"SIGTERM: {len(terms)}, {longest} s at most; status {dict(statuses)}")
    lines.append(f"commands that ended otherwise: {sum(bool(record['differs']) for record in done)} of {len(done)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
