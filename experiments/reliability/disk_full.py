"""Lets a run fill a disk, at several sizes of it, gives it room, and compares with a run that had room.

python experiments/reliability/disk_full.py       as root: it mounts a small tmpfs and unmounts it again

The disk is filled by another file to so many bytes that the run stops while it saves; then that file goes, and the same
command is given again.
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
    """Runs the program; 1 if a run did not come to the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
        try:
            return fill(Path(folder))
        finally:
            subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> int:
    """The runs."""
    with tempfile.TemporaryDirectory() as elsewhere:
        status, said = run(Path(elsewhere), "whole")
        wanted = model(Path(elsewhere) / "whole")
        print(f"with room: status {status}")
        equal = True
        for left in LEFT:
            name = f"run{left}"
            (disk / name).mkdir()  # a run that goes on is not refused beforehand
            (disk / name / "lock").touch()
            usage = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(usage.f_bavail * usage.f_frsize - left))
            full, said = run(disk, name)
            (disk / "filler").unlink()
            status, _ = run(disk, name)
            same = model(disk / name) == wanted
            equal &= same
            last = said.strip().splitlines()[-1].replace(str(disk), "DISK")
            print(f"{left / 1e6:.1f} MB left: status {full}, {last}")
            print(f"    with room again: status {status}, {'the same bits' if same else 'OTHER BITS'}", flush=True)
            subprocess.run(["rm", "-r", disk / name, disk / f"cache-{name}"], check=False)
    return 0 if equal else 1


def run(disk: Path, name: str) -> tuple[int, str]:
    """Status of a run on a disk, and what it said."""
    words = ["-m", "ltu_jax.unlearn", "--config", str(HERE / "small.py"), "--workdir", str(disk / name)]
    variables = {"PYTHONPATH": str(HERE.parents[1]), "JAX_PLATFORMS": "cpu"}
    cache = ["--cache", str(disk / f"cache-{name}")]
    done = subprocess.run(
        [sys.executable, *words, *cache], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def model(folder: Path) -> str:
    """The checksum of the unlearned model."""
    told = folder / "model" / "_CHECKPOINT_METADATA"
    return json.loads(told.read_text())["custom_metadata"]["tree_sha256"] if told.exists() else "none"


if __name__ == "__main__":
    sys.exit(main())
