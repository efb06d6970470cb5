"""Requests that earlier versions carried out (make_old_requests.py): they verify, and the folder goes on."""

import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

HERE = pathlib.Path(__file__).parent
SAYS = {"no_claim": "does NOT SAY whether forgetting is shown", "claim": "says that forgetting is NOT SHOWN"}


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(HERE / "old_requests.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "requests"


def run(folder, command, *words):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(HERE.parents[1])))}
    line = [sys.executable, "-m", f"ltu_jax.{command}", *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=env)


def verify(folder, version, *words, number=1, ids="ids.txt"):
    receipt = f"{version}/request-{number}/receipt.json"
    return run(folder, "verify", receipt, "--model", version, "--forget", ids, "--code", "mlp:build", *words)


@pytest.mark.parametrize("version", SAYS)
def test_an_old_receipt_verifies_with_its_evidence_computed_anew(folder, version):
    done = verify(folder, version, "--public_key", "public.pem")
    assert done.returncode == 0, done.stderr
    assert "verified: hashes and evidence of request 1, 30 rows, signed by" in done.stdout
    assert SAYS[version] in done.stdout and "by another version of this code" in done.stderr + done.stdout


@pytest.mark.parametrize("version", SAYS)
def test_what_was_altered_in_an_old_request_is_found(folder, version):
    rows = folder / version / "request-1" / "rows.json"
    rows.write_text(f"{rows.read_text()} ")
    done = verify(folder, version, "--public_key", "public.pem")
    assert done.returncode == 1 and "rows.json" in done.stdout and "NOT verified" in done.stdout


@pytest.mark.parametrize("version", ["no_claim", pytest.param("claim", marks=pytest.mark.slow)])
def test_a_folder_of_an_old_version_goes_on(folder, version):
    ledger = (folder / version / "ledger.jsonl").read_text()
    words = "--config mine.py --config.calibration.trials=0 --forget more.txt --workdir".split()
    done = run(folder, "unlearn", *words, version)
    assert done.returncode in (0, 4), done.stderr  # 4: done, and of so few rows not shown
    first, second = (folder / version / "ledger.jsonl").read_text().splitlines(keepends=True)
    assert first == ledger and second != first
    again = verify(folder, version, "--unsigned", number=2, ids="more.txt")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "of request 2, 25 rows" in again.stdout
