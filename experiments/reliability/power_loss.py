"""Cuts the power, in a simulation, after every file operation of a run and of a request, and starts them again.

python experiments/reliability/power_loss.py --out runs/power --minutes 20       needs strace

The command is run once under strace, which records what it does to files, also from within Orbax. From the record
follow the states in which a disk may be found after a power cut at any moment:

killed        everything is there, as after a kill
contents      names are there; contents that were not flushed are lost, so files are empty or as flushed last
names         so are names that were not flushed: a rename, a new file or a removal is undone
one undone    one name that was not flushed is undone, while all later ones are there
one done      one folder's names are there although they were not flushed, and those of all others are not

Each state is made, the same command is run on it, and the end is compared with that of the undisturbed run: models,
metrics and results except times, and that nothing else is left, such as an original that was to be deleted. States
that differ only within folders and files that are not yet at their place are tried once.
"""

import argparse
import contextlib
import io
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.reliability import small
from experiments.reliability.kill import differences, outcome
from ltu_jax import config as settings
from ltu_jax.files import is_partial
from ltu_jax.setting import ConfigError

DONE = (0, 4)
"""Exit statuses of a command that is done; 4 where forgetting is not shown."""
HERE = Path(__file__).parent
CALLS = "openat,open,creat,write,pwrite64,writev,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"
CALLS += ",rmdir,link,linkat,symlink,symlinkat,fsync,fdatasync,sync,syncfs"
TRACE = ["strace", "-f", "-y", "-qq", "-xx", "-s", "30000000", "-e", f"trace={CALLS}"]
KINDS = ("killed", "contents", "names", "one undone", "one done")
LARGE = 6
"""Of more names than this that were not flushed, so many are undone at random."""
ENDINGS = "same result", "refused", "crashed", "OTHER RESULT"

State = dict[str, bytes | None]
"""Path to contents; None for a folder."""


def get_config() -> settings.Config:
    """A run of eight steps with two checkpoints."""
    config = small.get_config()
    config.training.epochs, config.attackers.epochs, config.method.epochs = 4, 1, 4.0
    config.save_every, config.eval_every, config.save_seconds = 4, 4, 0.05
    config.calibration.trials, config.calibration.evaluations = 2, 2
    return config


def words(job: str) -> list[str]:
    """The arguments of a job's command, whose folders are below the current one."""
    request = ["--forget", str(HERE / "ids.txt")] if job == "request" else []
    return ["--config", str(Path(__file__)), *request, "--workdir", "out/home", "--cache", "out/cache"]


def main() -> int:
    """Runs the program; returns 1 if any state ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="for each of the two")
    parser.add_argument("--jobs", nargs="+", default=["run", "request"], choices=["run", "request"])
    args = parser.parse_args()
    logging.getLogger("ltu_jax").setLevel(logging.ERROR)
    out, failed = args.out.absolute(), False
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(out / "xla")
    jax.config.update("jax_compilation_cache_dir", str(out / "xla"))
    for job in args.jobs:
        folder = out / job
        if not (folder / "trace").exists():
            record(folder, job)
        states = list(states_of(folder))
        failed |= try_states(folder, job, states, time.monotonic() + 60 * args.minutes)
    return 1 if failed else 0


def record(folder: Path, job: str) -> None:
    """Runs a job under strace, which leaves ``trace`` beside the job's ``out``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    variables = {"PYTHONPATH": str(HERE.parents[1]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "ltu_jax.unlearn", *words(job)]
    with (folder / "said.txt").open("w") as said:
        for trace in ([], [*TRACE, "-o", "half"]):  # compiled before it is traced
            shutil.rmtree(folder / "out", ignore_errors=True)
            (folder / "out").mkdir()
            done = subprocess.run([*trace, *command], cwd=folder, env=os.environ | variables, stdout=said, stderr=said)
            if done.returncode not in DONE:
                done.check_returncode()
    (folder / "half").rename(folder / "trace")


class Node:
    """A file or folder, as the process sees it and as it is surely on the disk."""

    def __init__(self, is_folder: bool) -> None:
        self.is_folder = is_folder
        self.names: dict[str, Node] = {}
        self.flushed_names: dict[str, Node] = {}
        self.data = self.flushed_data = b""


class Op(NamedTuple):
    """A file operation: its name, its paths and what it wrote."""

    name: str
    paths: tuple[str, ...]
    data: bytes = b""


def states_of(folder: Path) -> Iterator[tuple[str, State]]:
    """The states after each operation of a trace, by kind, each once."""
    root, seen, rng = Node(True), set(), random.Random(0)
    root.names = {"out": Node(True)}
    root.flushed_names = dict(root.names)
    last = None
    for op in operations(folder):
        apply(root, op)
        for kind, state in possible(root, rng):
            what = fingerprint(state)
            if what not in seen:
                seen.add(what)
                yield kind, state
        last = op
    if last is None or {p: d for p, d in walk(root, lambda n: n.names, lambda n: n.data)} != on_disk(folder / "out"):
        raise RuntimeError("the trace does not lead to what is on the disk: an operation is not understood")


def possible(root: Node, rng: random.Random) -> Iterator[tuple[str, State]]:
    """The states in which the disk may be found now."""
    live, flushed = (lambda node: node.names), (lambda node: node.flushed_names)
    yield "killed", dict(walk(root, live, lambda node: node.data))
    lost = lambda names: dict(walk(root, names, lambda node: node.flushed_data))  # noqa: E731
    yield "contents", lost(live)
    yield "names", lost(flushed)
    dirty = [node for node in folders(root) if node.names != node.flushed_names]
    changed = [(node, name) for node in dirty for name in {*node.names, *node.flushed_names}]
    changed = sorted(
        (n for n in changed if n[0].names.get(n[1]) is not n[0].flushed_names.get(n[1])), key=lambda n: n[1]
    )
    for node, name in changed if len(changed) <= LARGE else rng.sample(changed, LARGE):
        mixed = {key: value for key, value in node.names.items() if key != name}
        if name in node.flushed_names:
            mixed[name] = node.flushed_names[name]
        yield "one undone", lost(lambda one, node=node, mixed=mixed: mixed if one is node else one.names)
    for node in dirty if len(dirty) <= LARGE else rng.sample(dirty, LARGE):
        yield "one done", lost(lambda one, node=node: one.names if one is node else one.flushed_names)


def folders(node: Node) -> Iterator[Node]:
    """A folder and all that are or were below it."""
    found, todo = {}, [node]
    while todo:
        one = todo.pop()
        if id(one) not in found and one.is_folder:
            found[id(one)] = one
            todo += [*one.names.values(), *one.flushed_names.values()]
    return iter(found.values())


def walk(node: Node, names, data, path: str = "") -> Iterator[tuple[str, bytes | None]]:
    """All below a folder, by the given names and contents."""
    for name, inside in names(node).items():
        where = f"{path}/{name}" if path else name
        if not inside.is_folder:
            yield where, data(inside)
        else:
            yield where, None
            yield from walk(inside, names, data, where)


def fingerprint(state: State) -> int:
    """A number that is the same for states which differ only in what is not at its place yet."""
    known = set()
    for path, data in state.items():
        parts = path.split("/")
        unfinished = [i for i, part in enumerate(parts) if is_partial(Path(part)) or "checkpoint-tmp" in part]
        if unfinished:
            path, data = (
                "/".join([*parts[: unfinished[0]], re.sub("[0-9a-f]{8}.partial", "partial", parts[unfinished[0]])]),
                b"",
            )
        known.add((path, data))
    return hash(frozenset(known))


def apply(root: Node, op: Op) -> None:
    """Does an operation."""
    if op.name == "sync":
        for node in folders(root):
            node.flushed_names = dict(node.names)
            for one in node.names.values():
                one.flushed_data = one.data
        return
    above, name = parent(root, op.paths[0])
    node = above.names.get(name)
    if op.name == "mkdir":
        above.names[name] = Node(True)
    elif op.name == "create" and node is None:
        above.names[name] = Node(False)
    elif node is None or op.name == "create":
        pass  # a call on what another thread has removed
    elif op.name == "truncate":
        node.data = b""
    elif op.name == "write":
        node.data += op.data
    elif op.name == "remove":
        above.names.pop(name)
    elif op.name == "rename":
        above.names.pop(name)
        beyond, other = parent(root, op.paths[1])
        beyond.names[other] = node
    elif op.name == "fsync":
        node.flushed_data, node.flushed_names = node.data, dict(node.names)


def parent(root: Node, path: str) -> tuple[Node, str]:
    """The folder of a path, and the name in it."""
    *above, name = path.split("/")
    for part in above:
        root = root.names[part]
    return root, name


def operations(folder: Path) -> Iterator[Op]:
    """The operations of a trace below ``out``, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in (folder / "trace").read_text(errors="replace").splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>").strip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", call):
            call = begun.pop(thread) + " " + resumed[1].strip()
        if parsed := re.match(r"(\w+)\((.*)\)\s+= (\d+)", call):
            yield from meaning(folder, parsed[1], parsed[2])


def meaning(folder: Path, name: str, given: str) -> Iterator[Op]:
    """What a call does below ``out``; nothing if it does nothing there."""
    texts = [unhex(text) for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', given)]
    given = re.sub(r"<((?:\\x[0-9a-f]{2})+)>", lambda path: f"<{os.fsdecode(unhex(path[1]))}>", given)
    inside = lambda path: os.path.relpath(path, folder)  # noqa: E731
    is_ours = lambda path: path == "out" or path.startswith("out/")  # noqa: E731
    if name in ("sync", "syncfs"):
        yield Op("sync", ())
        return
    if name in ("write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate"):
        opened = re.match(r"\d+<([^>]*)>", given)
        path = inside(opened[1]) if opened and opened[1].startswith("/") else ""
        if is_ours(path):
            kind = {"fsync": "fsync", "fdatasync": "fsync", "ftruncate": "truncate"}.get(name, "write")
            yield Op(kind, (path,), b"".join(texts))
        return
    bases = re.findall(r'(?:AT_FDCWD|\d+)<([^>]*)>, "', given)
    if len(bases) < len(texts):
        bases = [str(folder)] * len(texts)
    paths = tuple(inside(os.path.join(base, os.fsdecode(text))) for base, text in zip(bases, texts, strict=False))
    if not paths or not is_ours(paths[0]):
        return
    if name in ("openat", "open", "creat"):
        if "O_CREAT" in given or name == "creat":
            yield Op("create", paths)
        if "O_TRUNC" in given or name == "creat":
            yield Op("truncate", paths)
    elif name in ("link", "linkat", "symlink", "symlinkat"):
        raise RuntimeError(f"{name} is not understood: {given}")
    elif "out" not in paths:
        kind = {"mkdir": "mkdir", "unlink": "remove", "rmdir": "remove", "rename": "rename"}
        yield Op(kind[re.sub("at2?$", "", name)], paths)


def unhex(text: str) -> bytes:
    """The bytes of a text of strace's."""
    return bytes.fromhex(text.replace("\\x", ""))


def on_disk(folder: Path) -> State:
    """A folder as a state."""
    paths = [folder, *folder.rglob("*")]
    return {f"out/{p.relative_to(folder)}".removesuffix("/."): None if p.is_dir() else p.read_bytes() for p in paths}


def try_states(folder: Path, job: str, states: list[tuple[str, State]], until: float) -> bool:
    """Makes as many states as time allows, of each kind in a random order, goes on from each, and prints the counts.

    Returns:
      Whether any ended otherwise than the undisturbed run.
    """
    expected, scratch = outcome(folder / "out"), folder / "now"
    counts, known = Counter(), Counter(kind for kind, _ in states)
    order = random.Random(0).sample(range(len(states)), len(states))
    turn = Counter()
    turns = {number: turn.update([states[number][0]]) or turn[states[number][0]] for number in order}
    for number in sorted(order, key=lambda number: turns[number]):  # of each kind alike
        if time.monotonic() > until:
            break
        kind, state = states[number]
        shutil.rmtree(scratch, ignore_errors=True)
        make(scratch, state)
        ending, why = go_on(scratch, job, expected)
        counts[kind, ending] += 1
        if ending != ENDINGS[0]:
            print(f"{job}, {kind}, state {number}: {ending}: {why}", flush=True)
            shutil.rmtree(folder / f"{ending}-{number}", ignore_errors=True)
            make(folder / f"{ending}-{number}", state)
    print(f"{job:12}  states  tried  {'  '.join(ENDINGS)}")
    for kind in KINDS:
        each = [counts[kind, ending] for ending in ENDINGS]
        cells = "  ".join(f"{n:{len(ending)}}" for n, ending in zip(each, ENDINGS, strict=True))
        print(f"{kind:12}  {known[kind]:6}  {sum(each):5}  {cells}", flush=True)
    return any(n for (_, ending), n in counts.items() if ending != ENDINGS[0])


def make(folder: Path, state: State) -> None:
    """Writes a state into a new folder."""
    folder.mkdir(parents=True)
    for path, data in state.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


def go_on(folder: Path, job: str, expected: dict) -> tuple[str, str]:
    """Runs the job's command in a folder, in this process, where all is compiled: how it ended, and why."""
    said, here = io.StringIO(), Path.cwd()
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = command(job)
    except ConfigError as error:
        return "refused", str(error)
    except Exception as error:
        return "crashed", "".join(traceback.format_exception(error)[-3:])
    finally:
        os.chdir(here)
    if status not in DONE:
        return "refused", said.getvalue().strip().splitlines()[-1]
    for lock in (folder / "out" / "cache").glob("*.lock"):  # of a killed process: in nobody's way, but no result
        lock.unlink()
    differs = differences(expected, outcome(folder / "out"))
    if job == "request":
        differs += [str(path) for name in ("original-*", "work") for path in folder.rglob(name)]
    return (ENDINGS[3], ", ".join(differs)) if differs else (ENDINGS[0], "")


def command(job: str) -> int:
    """What the command does, but for reading its words."""
    from ltu_jax.commands.options import Options, check_request_folders, check_run_folders
    from ltu_jax.commands.request import carry_out
    from ltu_jax.commands.run import unlearn

    given = settings.resolve(get_config())
    forget = str(HERE / "ids.txt") if job == "request" else None
    options = Options(
        workdir=Path("out/home"),
        cache=Path("out/cache"),
        forget=forget,
        sign=None,
        keep_original=False,
        prepare=False,
        dry_run=False,
        show_images=False,
        distributed=False,
        coordinator=None,
        num_processes=None,
        process_id=None,
        deterministic=True,
        debug=False,
    )
    if forget is None:
        return unlearn(check_run_folders(given, options), options)
    check_request_folders(options)
    return carry_out(given, forget, options)


if __name__ == "__main__":
    sys.exit(main())
