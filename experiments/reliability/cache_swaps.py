"""Exchanges, edits and links entries of a cache, computes otherwise, shares an original, and prints what comes of it.

python experiments/reliability/cache_swaps.py

Needs two cores and `taskset`. The model is a ResNet: its bits depend on how many are trained in one program, those of
`small.py` do not. On other cores or flags so small a model may have the same bits; its entry is another anyway.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ltu_jax.files import locked
from ltu_jax.interop.sealing import seal, tree_sha256
from ltu_jax.training.cache import metadata_of
from ltu_jax.training.checkpoint import load_tree

HERE = Path(__file__).parent
RESNET = "digits.py:finetune --config.model.width=8 --config.training.epochs=2 --config.evaluation.num_retrain=0"
FLAG = {"XLA_FLAGS": "--xla_cpu_use_thunk_runtime=true --xla_cpu_max_isa=AVX2"}
Row = tuple[str, int, str]


def main() -> int:
    """Runs the program; returns 1 if anything came otherwise than it should."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows, wrong = [], 0
    for part in (exchanged, computed_otherwise, removed, refused):
        with tempfile.TemporaryDirectory() as folder:
            for (what, status, outcome), (wanted, words) in part(Path(folder).resolve()):
                is_right = status == wanted and words in outcome
                wrong += not is_right
                rows.append(
                    (what, status, outcome.replace(folder, "DIR") + ("" if is_right else "   NOT AS IT SHOULD BE"))
                )
                print("{:52} | {} | {}".format(*rows[-1]), flush=True)
    print(f"{len(rows)} tried, {wrong} not as they should be")
    return 1 if wrong else 0


Tried = Iterator[tuple[Row, tuple[int, str]]]


def exchanged(folder: Path) -> Tried:
    """Entries that are not what their names say."""
    for seed in (0, 1):
        train(folder, seed)
    one, other = originals(folder)
    said = [json.dumps(metadata_of(path)["key"]) for path in (one, other)]

    def swap(first: Path, second: Path) -> None:
        first.rename(folder / "aside")
        second.rename(first)
        (folder / "aside").rename(second)

    def edit(*, seals: bool) -> None:
        file = one / "_CHECKPOINT_METADATA"
        file.write_text(file.read_text().replace(said[0][1:-1], said[1][1:-1]))
        if seals:
            seal(one)

    def link(path: Path) -> None:
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")

    scores = sorted((folder / "cache").glob("scores-*.json"))
    harms: dict[str, tuple[Callable[[], object], str]] = {
        "two originals exchanged": (lambda: swap(one, other), "holds another value than its name says"),
        "two files of scores exchanged": (lambda: swap(*scores), "holds another value than its name says"),
        "an original's key edited": (lambda: edit(seals=False), "_CHECKPOINT_METADATA was altered"),
        "an original's key edited, its seal made anew": (lambda: edit(seals=True), "holds another value than its name"),
        "an original is a link": (lambda: link(one), "is a link, and a cache holds none"),
        "a file of an original is a link": (lambda: link(one / "files.json"), "is a link, and a cache holds none"),
        "scores are a link": (lambda: [link(scores[0]), scores[1].unlink()], "is a link, and a cache holds none"),
    }
    shutil.copytree(folder / "cache", folder / "whole")
    for what, (harm, words) in harms.items():
        harm()
        tried = [train(folder, seed) for seed in (0, 1)]
        yield (what, *max(tried)), (1, words)
        for path in (folder / "cache", folder / "elsewhere"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(folder / "whole", folder / "cache")
    status, said_last = train(folder, 0)
    yield ("nothing done", status, said_last), (0, "")


def computed_otherwise(folder: Path) -> Tried:
    """One model by its settings, computed in other ways: each has an entry of its own."""
    two, together = ["--config.num_seeds=2"], ["--config.num_seeds=2", "--config.at_once=2"]
    tries = {
        "on all cores": ((), [], {}, 1),
        "on all cores, again": ((), [], {}, 0),
        "on one core": (("taskset", "-c", "0"), [], {}, 1),
        "with other XLA_FLAGS": ((), [], FLAG, 1),
        "with one thread": ((), [], {"PJRT_NPROC": "1"}, 1),
        "with a flag for GPUs": ((), [], {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}, 0),
        "two seeds, one at a time": ((), two, {}, 1),  # seed 0 is there
        "two seeds at once": ((), together, {}, 2),
        "two seeds at once, again": ((), together, {}, 0),
        "two seeds at once, one of them lost": ((), together, {}, 1),
    }
    bits: dict[Path, str] = {}
    lost = ""
    for what, (prefix, words, variables, count) in tries.items():
        if what.endswith("lost"):
            shutil.rmtree(list(bits)[-1])
            lost = bits.pop(list(bits)[-1])
        status, said = train(folder, 0, *words, prefix=prefix, **variables)
        new = [path for path in originals(folder) if path not in bits]
        bits |= {path: sha256_of(path) for path in new}
        of = f"{len(set(bits.values()))} different"
        if what.endswith("lost"):
            of = "the lost one to the same bits" if bits[new[0]] == lost else "the lost one to OTHER bits"
        wanted = of.replace("OTHER", "the same") if what.endswith("lost") else f"{count} trained"
        yield (what, status, f"{len(new)} trained; {len(bits)} originals, {of}{said}"), (0, wanted)


def removed(folder: Path) -> Tried:
    """Two folders of requests with one cache."""
    ids = HERE.joinpath("ids.txt").read_text().split()
    for file, part in (("first", ids[:20]), ("next", ids[20:30]), ("third", ids[30:])):
        (folder / file).write_text("\n".join(part))

    def request(home: str, file: str, *words: str) -> tuple[int, str]:
        return run(folder, "small.py", "--forget", str(folder / file), "--workdir", home, *words)

    status, said = request("a", "first", "--keep_original")
    yield ("A makes an original and keeps it", status, f"{len(originals(folder))} left; {said}"), (0, "1 left")
    status, said = request("b", "first")
    yield (
        ("B finds it", status, f"{len(originals(folder))} left; {said}"),
        (0, "was not trained by a request of this folder"),
    )
    [own] = originals(folder)
    with locked(own.with_name(f"{own.name}.lock")):
        status, said = request("a", "next")
    yield (
        ("A's next request, while a process has it", status, f"{len(originals(folder))} left; {said}"),
        (0, "in use by another"),
    )
    trap = folder / "photos" / f"original-{'0123' * 5}"
    trap.mkdir(parents=True)
    (trap / "photo.png").touch()
    with (folder / "a" / "original").open("a") as note:
        note.write(f"\n../photos/{trap.name}")
    status, said = request("a", "third")
    kept = "the photo is there" if (trap / "photo.png").exists() else "the photo is gone"
    yield (
        ("A's third, with a photo's folder in its note", status, f"{len(originals(folder))} left, {kept}; {said}"),
        (0, "0 left, the photo is there"),
    )


def refused(folder: Path) -> Tried:
    """Command lines that would harm what is there."""
    train(folder, 0)
    yield (
        ("--cache equal to --workdir", *run(folder, RESNET, "--workdir", "cache")),
        (2, "--cache: 'cache' is --workdir"),
    )
    sweep = ["-m", "ltu_jax.sweep", str(HERE / "sweep_small.py"), "--out", "sweep"]
    with locked(folder / "sweep" / "lock"):
        yield ("a second sweep with one --out", *command(folder, sweep)), (2, "is in use by another process")
    with locked(folder / "t.json.lock"):
        tune = ["-m", "ltu_jax.tune", sweep[2], "--out", "t.json"]
        yield ("a second search with one --out", *command(folder, tune)), (2, "is in use by another process")
    listing = ["-m", "ltu_jax.cache", "cache"]
    [own] = originals(folder)
    yield ("cache: listed", *command(folder, listing)), (0, "2 entries")
    with locked(own.with_name(f"{own.name}.lock")):
        yield (
            ("cache: purged while a process makes it", *command(folder, [*listing, "--purge", "original"])),
            (1, "0 of 2"),
        )
    yield ("cache: purged by a name", *command(folder, [*listing, "--purge", own.name])), (0, "1 of 2")
    yield (
        ("cache: a word that is none of it", *command(folder, [*listing, "--purge", "orignal"])),
        (2, "is nothing of this cache"),
    )
    yield ("cache: kept under 1 kB", *command(folder, [*listing, "--limit", "1KB"])), (0, "1 of 1")


def train(folder: Path, seed: int, *words: str, prefix: tuple[str, ...] = (), **variables: str) -> tuple[int, str]:
    """Trains an original, or finds it; exit status and the last line on standard error."""
    return run(folder, RESNET, "--prepare", f"--config.seed={seed}", *words, prefix=prefix, **variables)


def run(folder: Path, config: str, *words: str, prefix: tuple[str, ...] = (), **variables: str) -> tuple[int, str]:
    """Runs ``ltu_jax.unlearn`` with a cache in a folder."""
    name, *own = config.split()
    file = str((HERE if name.startswith("small") else HERE.parent / "configs") / name)
    line = ["-m", "ltu_jax.unlearn", "--config", file, "--cache", "cache", *own, *words]
    return command(folder, line, prefix=prefix, **variables)


def command(folder: Path, words: list[str], *, prefix: tuple[str, ...] = (), **variables: str) -> tuple[int, str]:
    """Exit status of a Python command, and its errors and notes, else its last line if it prints no more than some."""
    ours = {
        "PYTHONPATH": str(HERE.parents[1]),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
    }
    done = subprocess.run(
        [*prefix, sys.executable, *words],
        cwd=folder,
        env=os.environ | ours | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "note: ", "Traceback"))]
    last = done.stdout.splitlines()[-1:] if "ltu_jax.cache" in words else []
    return done.returncode, "; ".join(told or last)


def sha256_of(path: Path) -> str:
    """Hash of a model in the cache, without the seconds that it took."""
    tree, _ = load_tree(path)
    return tree_sha256([tree["params"], tree["model_state"]])


def originals(folder: Path) -> list[Path]:
    """The originals in the cache, the oldest first."""
    return sorted(
        (path for path in (folder / "cache").glob("original-*") if path.is_dir()), key=lambda p: p.lstat().st_ctime
    )


if __name__ == "__main__":
    sys.exit(main())
