"""Lets the disk fill up during a run, at several amounts of free space, and compares with a run that had space.

python experiments/reliability/disk_full.py       as root: it mounts a small tmpfs and unmounts it again

Another file fills the disk so far that the run stops while it saves. Then that file is deleted and the same command
runs again.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SIZE = 64_000_000
LEFT = (100_000, 1_000_000, 2_500_000, 5_000_000, 7_000_000, 9_000_000)


def main() -> int:
    """Runs the program; returns 1 if a run did not end with the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
        try:
            return fill(Path(folder))
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> int:
    """Does all runs on ``disk`` and prints how they ended; returns the exit status."""
    with tempfile.TemporaryDirectory() as elsewhere:
        status, _ = run(Path(elsewhere), "whole")
        expected = model(Path(elsewhere) / "whole")
        print(f"with room: status {status}")
        equal = True
        for left in LEFT:
            name = f"run{left}"
            (disk / name).mkdir()  # a run that continues is not refused for lack of space
            (disk / name / "lock").touch()
            usage = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(usage.f_bavail * usage.f_frsize - left))
            status_when_full, errors = run(disk, name)
            (disk / "filler").unlink()
            status, _ = run(disk, name)
            same = model(disk / name) == expected
            equal &= same
            last = errors.strip().splitlines()[-1].replace(str(disk), "DISK")
            print(f"{left / 1e6:.1f} MB left: status {status_when_full}, {last}")
            print(f"    with room again: status {status}, {'the same bits' if same else 'OTHER BITS'}", flush=True)
            subprocess.run(["rm", "-r", disk / name, disk / f"cache-{name}"], check=False)
    return 0 if equal else 1


def run(disk: Path, name: str) -> tuple[int, str]:
    """Exit status and standard error of a run on ``disk``."""
    words = ["-m", "ltu_jax.unlearn", "--config", str(HERE / "small.py"), "--workdir", str(disk / name)]
    variables = {"PYTHONPATH": str(HERE.parents[1]), "JAX_PLATFORMS": "cpu"}
    cache = ["--cache", str(disk / f"cache-{name}")]
    done = subprocess.run(
        [sys.executable, *words, *cache], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def model(folder: Path) -> str:
    """The checksum of the unlearned model."""
    metadata = folder / "model" / "_CHECKPOINT_METADATA"
    return json.loads(metadata.read_text())["custom_metadata"]["tree_sha256"] if metadata.exists() else "none"


if __name__ == "__main__":
    sys.exit(main())
