"""Gives bad inputs to every command and counts the answers: one line and status 2, never a traceback.

python experiments/reliability/bad_inputs.py                      all of it, eight minutes on two cores
python experiments/reliability/bad_inputs.py --only listed        the table alone
python experiments/reliability/bad_inputs.py --cases 1000 --commands 10

Listed: bad inputs chosen by hand, each a command of its own, which must not change its folder. Those of mistakes.py
must be answered with the exact line given there, the others with any line that starts with "error: ". Doors: the
readers of files and settings, called in this process as the commands call them, with random input (fuzzing.py).
Commands: whole commands with random settings. Needs the extra ``test``. Exit status 1 if any answer is a different one.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from experiments.reliability.fuzzing import (
    DOORS,
    JSON,
    REFUSALS,
    SLOW,
    TABLE,
    Door,
    altered,
    damaged,
    image_file,
    made_result,
)
from experiments.reliability.mistakes import answers, make_files
from ltu_jax import config
from ltu_jax.setting import settings

ROOT = Path(__file__).parents[2]
UNLEARN, VERIFY, REPORT, SWEEP, TUNE, TABLES = (
    ("-m", f"ltu_jax.{name}") for name in ("unlearn", "verify", "report", "sweep", "tune", "tables")
)
WAIT_S = 120


class Answer(NamedTuple):
    """The answer of a command."""

    status: int
    lines: list[str]  # of standard error, without progress
    changed: bool  # whether the files in its folder changed

    @property
    def fault(self) -> str:
        """What is wrong with the answer to a bad input; empty if nothing is."""
        if self.status != 2:
            return f"status {self.status}"
        if len(self.lines) != 1 or not self.lines[0].startswith("error: "):
            return f"{len(self.lines)} lines"
        if "Traceback" in self.lines[0] or "\\n" in self.lines[0]:
            return "a traceback in the line"
        return "something was written" if self.changed else ""


def fields(*given: str) -> list[tuple[str, ...]]:
    """Commands that set one field."""
    return [(*UNLEARN, f"--config.{field}") for field in given]


def table(*more: str) -> tuple[str, ...]:
    """A command that reads ``rows.csv``; later flags win."""
    return (*UNLEARN, "--config.data.name=table", "--config.data.table=rows.csv", "--dry_run", *more)


def listed() -> list[tuple[str, ...]]:
    """The bad inputs; ``_files`` writes the files that they name."""
    data = lambda *more: (*UNLEARN, "--dry_run", *(f"--config.data.{field}" for field in more))  # noqa: E731
    weights = lambda name: table("--config.data.held_out=train", f"--config.weights={name}")  # noqa: E731
    return [
        *fields("training.epochs=0", "training.epochs=1000000", "training.epochs=many", "training.epochs=1e3"),
        *fields("training.learning_rate=nan", "training.learning_rate=inf", "seed=4294967296", "seed=-1"),
        *fields("seed=" + "9" * 400, "num_seeds=1000000000", "model.width=1000000", "model.name=resnet19"),
        *fields("model.name=..:x", "model.name=os:getcwd", "method.name=this_is_none:x", "model.patch_size=0"),
        *fields("model.std=0,0,0", "model.mean=0.5,0.5", "data.image_size=100000", "data.classes=1,b"),
        *fields("data.name=../x", "data.name=/etc", "data.name=nothing_like_it", "data.name="),
        *fields("data.name=..:x", "data.name=os:getcwd", "data.name=this_is_none:x"),
        *fields("data.data_dir=" + "x" * 300, "data.nme=digits", "attackers.names=sorted", "data.forget_kind=ids"),
        *fields("data.remain_fraction=0", "evaluation.batch_size=10000000000", "weights=" + "y/" * 3000, "x.y=1"),
        (*UNLEARN, "--config", "wrong_type.py"),
        (*UNLEARN, "--config", "pipe"),
        (*UNLEARN, "--workdir", "x" * 300),
        (*UNLEARN, "--workdir", "ids.txt/out"),
        (*UNLEARN, "--workdir", "other"),
        (*UNLEARN, "--workdir", "damaged"),
        (*UNLEARN, "--cache", "ids.txt"),
        (*UNLEARN, "--frget", "ids.txt"),
        (*UNLEARN, "--prepare", "--dry_run"),
        (*UNLEARN, "--sign", "key.pem"),
        (*UNLEARN, "--forget", "ids.txt", "--config.num_seeds=2"),
        *((*table("--config.data.held_out=train", "--workdir", "out"), "--forget", name) for name in NO_IDS),
        data("image_size=8000"),
        data("name=folder"),
        data("name=folder", "data_dir=none"),
        data("name=folder", "data_dir=~nobody-of-this-name"),
        data("name=folder", "data_dir=bombs"),
        data("name=folder", "data_dir=links"),
        data("name=folder", "data_dir=script"),
        data("name=arrays", "data_dir=lying"),
        data("name=arrays", "data_dir=pickled"),
        data("name=made_up", "data_dir=prepared"),
        data("forget_kind=ids", "forget_ids=pipe"),
        data("name=folder", "data_dir=blank", "forget_kind=ids", "forget_ids=blank.txt", "train_size=20"),
        table(
            "--config.attackers.fitted_on=original",
            "--config.data.remain_fraction=0.001",
            "--config.data.train_size=20",
        ),
        data("forget_class=99999", "forget_kind=class"),
        *(table(f"--config.data.table={name}") for name in NO_TABLE),
        *(weights(name) for name in NO_WEIGHTS),
        *((*VERIFY, *words.split()) for words in NO_RECEIPT),
        *((*REPORT, *words.split()) for words in NO_RUN),
        *((*SWEEP, *words.split()) for words in NO_SWEEP),
        *((*TUNE, *words.split()) for words in NO_SWEEP),
        *((*TABLES, *words.split()) for words in NO_RESULTS),
    ]


FEW = "--config.data.train_size=20"
NO_IDS = ["none.txt", ".", "pipe", "/dev/zero", "empty.txt", "binary", "unknown.txt", "x" * 300]
NO_TABLE = ["none.csv", "absolute.csv", "up.csv", "link.csv", "twice.csv", "latin.csv", "pipe.csv", "other.parquet"]
NO_WEIGHTS = ["none.pth", "evil.pth", "damaged.safetensors", "damaged.msgpack", "other", "ids.txt", "pipe.pth"]
NO_RECEIPT = ["", "none.json", ".", "ids.txt", "deep.json", "pipe", "list.json", "a b", "--sgin", "ids.txt --model"]
NO_RECEIPT += ["ids.txt --forget none.txt", "ids.txt --public_key ids.txt", "ids.txt --public_key /dev/zero"]
NO_RUN = ["", "none", "other", "half", "deep", "half --out x.txt", "half --out none/x.html", "--on x half"]
NO_SWEEP = [
    "none.py --out out",
    "syntax.py --out out",
    "wrong_type.py --out out",
    "sweep.py --out ids.txt/x --workers 0",
]
NO_SWEEP += ["sweep.py", "bad_row.py --out out"]
NO_RESULTS = ["", "5 half", "1 none.jsonl", "1 ids.txt", "1 half", "1 deep.jsonl", "1 pipe", "1 half --picture x.txt"]


def _files(folder: Path) -> None:
    """Writes the files that the bad inputs name; nothing ever writes to ``pipe``."""
    for name in (
        "other",
        "damaged",
        "bombs/a",
        "links/a",
        "links/b",
        "script/a",
        "lying",
        "pickled",
        "half",
        "deep",
        "blank/ a",
        "blank/b",
    ):
        (folder / name).mkdir(parents=True)
    picture, bomb = image_file("PNG"), bytearray(image_file("PNG"))
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    deep, head = '{"a": ' * 100_000, "path,label\n"
    content: dict[str, bytes | str] = {
        **{f"{name}.png": picture for name in ("a", "b", "links/a/1", "links/b/1", "bombs/a/1", "script/a/1")},
        **{f"{i}.png": picture for i in range(40)},
        "rows.csv": TABLE.decode() + "".join(f"{i}.png,{i % 2},id{i},train\n" for i in range(40)),
        "bombs/a/2.png": bytes(bomb),
        "script/a/2.png": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n",
        "other/file": "x",
        "damaged/config.json": "{",  # alone it would be what a power cut leaves of a run, which goes on
        "damaged/mine": "x",
        "half/result.json": json.dumps({"schema_version": 2}),
        "deep/result.json": deep,
        **{f"deep.{kind}": deep for kind in ("json", "jsonl")},
        "list.json": "[]",
        "ids.txt": "id1\nid2\n",
        "empty.txt": "\n \n",
        "blank.txt": " a/1.png\n",
        **{f"blank/{label}/{i}.png": picture for label in (" a", "b") for i in range(40)},
        "binary": b"\xff\xfe\x00",
        "unknown.txt": "id1\nnobody\n",
        "absolute.csv": f"{head}/etc/hostname,1\na.png,0\n",
        "up.csv": f"{head}../x.png,1\na.png,0\n",
        "link.csv": f"{head}way/x.png,1\na.png,0\n",
        "twice.csv": f"{head}a.png,1\na.png,0\n",
        "latin.csv": b"path,label\na.png,caf\xe9\n",
        "other.parquet": "PAR1PAR1",
        "evil.pth": "no zip",
        "damaged.safetensors": b"\xff" * 20,
        "damaged.msgpack": b"\xdf\xff\xff\xff\xff",
        "wrong_type.py": "def get_config(method='ltu'):\n    return 3\ndef get_sweep():\n    return 3\n",
        "sweep.py": SWEEP_FILE.format("epochs", 2),
        "bad_row.py": SWEEP_FILE.format("epochs", "'many'"),
    }
    for name, text in content.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    np.savez(folder / "pickled" / "train.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([{}, []], object))
    (folder / "lying" / "train.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "links" / "a" / "2.png").symlink_to("/etc/hostname")
    (folder / "way").symlink_to("/")
    for name in ("pipe", "pipe.csv", "pipe.pth"):
        os.mkfifo(folder / name)


SWEEP_FILE = """from ltu_jax.sweeping import Row, Sweep

def get_sweep():
    row = Row("FT", "finetune", {{"method.{}": {}}}, space={{"method.learning_rate": (0.001, 0.1, "log")}})
    return Sweep(config="none.py", rows=[row], seeds=[0], tuning_seeds=[1])
"""


def ask(words: Sequence[str], folder: Path) -> Answer:
    """Runs ``python WORDS`` in a folder."""
    before = _listing(folder)
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            capture_output=True,
            errors="replace",
            timeout=WAIT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, [f"no answer in {WAIT_S} s"], False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("reading ", "left out, "))]
    return Answer(done.returncode, lines, _listing(folder) != before)


def _listing(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)


def ask_all(todo: Sequence[Sequence[str]], folder: Path) -> Iterator[tuple[Sequence[str], Answer]]:
    """Runs the commands two at a time, in one folder that none of them may change."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield from zip(todo, pool.map(lambda words: ask(words, folder), todo), strict=True)


def show_listed() -> int:
    """Prints the table; returns how many answers were not one line with status 2."""
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "here"
        folder.mkdir()
        _files(folder)
        make_files(folder)
        expected: dict[Sequence[str], str] = {(*UNLEARN, *words): line for words, line in answers(folder)}
        todo = [*expected, *listed()]
        print(f"## {len(todo)} bad inputs\n\n| input | message | status |\n|---|---|---|")
        for words, answer in ask_all(todo, folder):
            fault = answer.fault
            if not fault and answer.lines[0] != expected.get(tuple(words), answer.lines[0]):
                fault = f"expected: {expected[tuple(words)]}"
            wrong += bool(fault)
            message = " / ".join(answer.lines[-1:]).replace(str(folder), ".")
            note = f" **{fault}**" if fault else ""
            cells = shlex.join(words).replace(str(ROOT / "experiments"), "experiments"), message
            shown = [_short(cell).replace("|", "\\|") for cell in cells]
            print(f"| `{shown[0]}` | {shown[1]} | {answer.status}{note} |", flush=True)
    print(f"\n{len(todo)} bad inputs, {wrong} not answered in one line with status 2 and nothing written\n")
    return wrong


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-150:]}"


def _drawn(count: int) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def show_doors(cases: int) -> int:
    """Prints how the readers answered ``cases`` cases in all; returns how many ended in a traceback."""
    print("## Doors\n\n| door | accepted | refused | tracebacks |\n|---|---|---|---|")
    slow = min(20, cases // len(DOORS))
    share, more = divmod(cases - slow * len(SLOW), len(DOORS) - len(SLOW))
    total = collections.Counter()
    for number, (name, door) in enumerate(DOORS.items()):  # the slow one comes last
        count = _count(door, slow if name in SLOW else share + (number < more))
        print(f"| {name} | {count['accepted']} | {count['refused']} | {count['tracebacks']} |", flush=True)
        total += count
    counts = ", ".join(f"{total[name]} {name}" for name in ("accepted", "refused", "tracebacks"))
    print(f"\n{sum(total.values())} cases: {counts}\n", flush=True)
    return total["tracebacks"]


def _count(door: Door, size: int) -> collections.Counter[str]:
    """Counts the answers to ``size`` cases; a traceback is printed on standard error."""
    count: collections.Counter[str] = collections.Counter()

    @_drawn(size)
    @given(door.given)
    def one(drawn: object) -> None:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
            try:
                door.read(Path(folder), drawn)
                count["accepted"] += 1
            except REFUSALS:
                count["refused"] += 1
            except Exception:
                count["tracebacks"] += 1
                traceback.print_exc()

    one()
    return count


NAMES = [
    name for method in ("ltu", "scrub") for name, _, _ in settings(config.Config(method=config.method_config(method)))
]
VALUES = st.integers(-5, 10**6).map(str) | st.floats().map(str) | st.text(st.characters(min_codepoint=32), max_size=10)
FLAGS = st.lists(
    st.builds("--{}={}".format, st.sampled_from(NAMES), VALUES.filter(lambda v: "\0" not in v)), max_size=3
)
FILES = {
    "rows.csv": damaged(TABLE),
    "ids.txt": st.binary(max_size=40),
    "receipt.json": JSON.map(lambda value: json.dumps(value).encode()),
    "run.json": altered(made_result()).map(lambda value: json.dumps(value).encode()),
    "a.png": damaged(image_file("PNG")),
}
COMMANDS = st.one_of(
    FLAGS.map(lambda flags: (*UNLEARN, "--dry_run", *flags)),
    FLAGS.map(lambda flags: table("--config.data.held_out=train", *flags)),
    st.just((*table("--config.data.held_out=train"), "--forget", "ids.txt", "--workdir", "out")),
    st.just((*VERIFY, "receipt.json", "--hashes")),
    st.just((*REPORT, "run.json", "--out", "out.html")),
    st.just((*TABLES, "1", "run.json")),
)


def show_commands(count: int) -> int:
    """Prints how whole commands ended; returns how many had a traceback or a status other than 0 and 2."""
    drawn: list[tuple[Sequence[str], dict[str, bytes]]] = []

    @_drawn(count)
    @given(COMMANDS, st.fixed_dictionaries(FILES))
    def draw(words: Sequence[str], files: dict[str, bytes]) -> None:
        drawn.append((words, files))

    draw()

    def answer_to(case: tuple[Sequence[str], dict[str, bytes]]) -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {**case[1], "b.png": image_file("PNG")}.items():
                (Path(folder) / name).write_bytes(content)
            return ask(case[0], Path(folder))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(answer_to, drawn[:count]))
    status = collections.Counter(answer.status for answer in answers)
    wrong = [
        (case, answer)
        for case, answer in zip(drawn, answers, strict=False)
        if answer.status not in (0, 2) or any("Traceback" in line for line in answer.lines)
    ]
    for case, answer in wrong:
        print(f"status {answer.status}: {shlex.join(case[0])}\n  {case[1]}\n  {' / '.join(answer.lines[-8:])}")
    counts = ", ".join(f"status {number}: {count}" for number, count in sorted(status.items()))
    print(f"## Commands\n\n{len(answers)} whole commands: {counts}; {len(wrong)} otherwise or with a traceback")
    return len(wrong)


def main() -> int:
    """Runs the parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("listed", "doors", "commands"), help="one part alone")
    parser.add_argument("--cases", type=int, default=10_000, help="random cases for all readers together")
    parser.add_argument("--commands", type=int, default=100, help="whole commands")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    command = ["python", *sys.argv]
    print(
        f"# Bad inputs\n\n`{shlex.join(command)}`, {os.cpu_count()} CPU cores, Python {platform.python_version()},",
        end=" ",
    )
    print(f"commit {commit.strip()}\n", flush=True)
    parts = {
        "listed": show_listed,
        "doors": lambda: show_doors(args.cases),
        "commands": lambda: show_commands(args.commands),
    }
    wrong = [part() for name, part in parts.items() if args.only in (None, name)]
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
