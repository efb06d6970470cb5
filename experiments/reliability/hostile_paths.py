"""Runs, requests and verifies in folders of every kind of name, and prints a table of what became of each.

python experiments/reliability/hostile_paths.py --out runs/paths

Each name is that of a folder which holds workdir and cache. Allowed outcomes: everything works, and the receipt
verifies; or the run and the request are refused before anything is written, in one line, with status 2.
"""

import argparse
import contextlib
import io
import logging
import os
import shutil
import sys
import traceback
from pathlib import Path

import jax
from absl import flags

from experiments.reliability.power_loss import get_config
from ltu_jax import unlearn, verify
from ltu_jax.config import resolve
from ltu_jax.setting import ConfigError

HERE = Path(__file__).parent
NAMES = ["plain", "[v2]", "[", "]", "[!a]", "a*b", "**", "a?b", "a\\b", "\\", "{x}", "a,b", "~", "$HOME", "`id`"]
NAMES += [
    "a b",
    " leading",
    "trailing ",
    "new\nline",
    "tab\t",
    "\x01\x7f",
    "\x1b[31mred",
    "-dash",
    "--workdir=x",
    "..a",
]
NAMES += ["#", "%", "%41", "%s", "a&b;c|d", "a'b", 'a"b', "a:b", "gs:", "s3:", "file:", "http:", "=", "@", "!", "^"]
NAMES += ["\xe4\xdf", "e\u0301", "\u65e5\u672c", "\U0001f600", "\u202egnp.exe", "\udcff", "x" * 255, "x" * 256]
NAMES += ["/".join(["x" * 250] * 14), "/".join(["x" * 250] * 16), "request-1", "lock", "model.0123abcd.partial"]


def main() -> int:
    """Runs the program; returns 1 if any name was neither fine nor refused at the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=NAMES, help="unset: all")
    args = parser.parse_args()
    out, failed = args.out.absolute(), False
    logging.getLogger("ltu_jax").setLevel(logging.ERROR)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(out / "xla")
    jax.config.update("jax_compilation_cache_dir", str(out / "xla"))
    unlearn.define_flags()
    print("| path | run | request | verify | outcome |\n|---|---|---|---|---|")
    for name in args.names:
        shutil.rmtree(out / "now", ignore_errors=True)
        (out / "now").mkdir(parents=True)
        os.chdir(out / "now")
        run = attempt(lambda name=name: command(name, "run"))
        request = attempt(lambda name=name: command(name, "home", f"--forget={HERE / 'ids.txt'}"))
        receipt = f"./{name}/home/request-1/receipt.json"  # else a leading dash would begin a flag
        check = attempt(lambda receipt=receipt: verify.main(["--hashes", receipt]))
        written = [path for path in Path().rglob("*") if path.is_file()]
        is_fine = (run[0], check[0]) == (0, 0) and request[0] in (0, 4)  # 4: done, but forgetting is not shown
        is_refused = run[0] == request[0] == 2 and not written
        failed |= not (is_fine or is_refused)
        outcome = (
            "works" if is_fine else f"refused: {run[1]}" if is_refused else f"FAULT: {run[1]} {request[1]} {check[1]}"
        )
        shown = ascii(name)[1:-1] if len(name) < 50 else f"{name[:3]}... ({len(name)} characters)"
        cells = [f"`{shown}`", *(str(status) for status, _ in (run, request, check)), outcome.replace(str(out), "OUT")]
        print("| " + " | ".join(cell.replace("|", "\\|")[:300] for cell in cells) + " |", flush=True)
    return 1 if failed else 0


def command(name: str, workdir: str, *more: str) -> int:
    """``python -m ltu_jax.unlearn`` in this process, where all is compiled."""
    words = ["unlearn", f"--workdir={name}/{workdir}", f"--cache={name}/cache", *more]
    config = get_config()
    config.training.epochs, config.method.epochs, config.calibration.trials = 1, 1.0, 0
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS:
        flags.FLAGS[flag].unparse()
    flags.FLAGS(words)
    return unlearn.main(resolve(config))


def attempt(call) -> tuple[int | str, str]:
    """The exit status of a command, and the last line that it said."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = call()
    except ConfigError as error:
        return 2, str(error)
    except Exception as error:
        return "crashed", traceback.format_exception_only(error)[-1].strip()
    return status, (said.getvalue().strip().splitlines() or [""])[-1]


if __name__ == "__main__":
    sys.exit(main())
