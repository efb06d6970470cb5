"""The command line of audits: a mistake is one line at once, before JAX is imported; nothing is written."""

import json
import re

import numpy as np
import pytest
from refused import command, imports, refusal

from ltu_jax.config import resolve
from ltu_jax.default import get_config
from ltu_jax.setting import to_dict


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--workdir: None; allowed: the folder of a finished run"),
        (["--workdir=none"], "--workdir: 'none' has no result.json; allowed: a folder that python -m ltu_jax.unlearn"),
        (["--workdir=run", "--level=3"], r"--level: 3; allowed: 0\.\.2"),
        (["--workdir=run", "--retrains=0"], r"--retrains: 0; allowed: 1\.\.64"),
        (["--workdir=run", "--shadows=4"], r"--shadows: 4; allowed: 6\.\.512"),
        (["--workdir=run", "--shadows=7"], "--shadows: 7; allowed: an even number, for they come in pairs"),
        (["--workdir=run", "--oracles=5"], r"--oracles: 5; allowed: 6\.\.512"),
        (["--workdir=run", "--canaries=39"], "--canaries: 39; allowed: 0, or 40 and more"),
        (["--workdir=run", "--config.num_seeds=2"], "config.num_seeds: 2; allowed: 1, the folder of one seed"),
        (["--workdir=run", "--audits=rima"], "--audits: 'rima' is no audit; allowed: .*did you mean 'rmia'"),
        (["--workdir=run", "--audits=held_out,lira"], "--audits: 'lira' is of level 2; allowed: with --level 2"),
        (["--workdir=run", "--audits=rmia", "--level=0"], "--audits: 'rmia' is of level 1; allowed: with --level 1"),
        (["--workdir=run", "--audits="], "--audits: '' is no audit; allowed: "),
        (["--workdir=run", "--config.seed=1"], r"--workdir: 'run' holds another run \(config.seed was 0, is 1"),
        (["--workdir=run", "--cache=run/result.json"], "--cache: 'run/result.json' cannot be made"),
        (["--workdir=new", "--target=a.npz"], "target: 'a.npz' cannot be read .no such file.; allowed: a"),
        (["--workdir=run", "--target=a.npz"], "--workdir: 'run' is the folder of a run; allowed: another one"),
        (["--workdir=new", "--target=a.npz", "--audits=rmia"], "--audits: it is about a run of ours; allowed: without"),
        (["--workdir=new", "--target=a.npz", "--level=1"], "--level: it is about a run of ours; allowed: without"),
        (["--workdir=run", "--original=a.npz"], "--original: 'a.npz' is beside no --target; allowed: with --target"),
        (["--wrkdir=run"], "--wrkdir: no such flag; allowed: .*did you mean 'workdir'"),
    ],
)
def test_a_mistake_is_one_line_at_once_and_nothing_is_written(tmp_path, words, message):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(to_dict(resolve(get_config()))))
    (run / "result.json").write_text("{}")
    said, done = refusal("ltu_jax.audit", tmp_path, *words)
    assert re.match(f"error: {message}", said), said
    assert not imports(done, "jax", *(() if "--target" in str(words) else ("numpy",)))


def test_help_does_not_wait_for_jax(tmp_path):
    done = command("ltu_jax.audit", tmp_path, "--help")
    assert done.returncode == 0 and "--audits" in done.stdout and "--level" in done.stdout
    assert not imports(done, "jax", "numpy")


def test_answers_in_files_are_audited_without_jax(tmp_path):
    rng, labels = np.random.default_rng(0), np.arange(200) % 4
    names = ["target.npz", "one.npz", "two.npz", "original.npz"]
    for name in names:
        arrays = {of: rng.normal(size=(200, 4)) for of in ("forget", "held_out")}
        if name == "original.npz":
            arrays["forget"][np.arange(200), labels] += 3
        np.savez(tmp_path / name, **arrays, forget_labels=labels, held_out_labels=labels)
    words = ["--target=target.npz", "--references=one.npz,two.npz", "--original=original.npz", "--workdir=new/audit"]
    done = command("ltu_jax.audit", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert not imports(done, "jax", "flax")
    found = json.loads((tmp_path / "new" / "audit" / "audit.json").read_text())
    assert [one["audit"] for one in found["findings"]] == ["held_out", "retrain", "rmia", "iam"]
    assert found["findings"][0]["original"]["low"] > 0.9 > found["findings"][0]["unlearned"]["high"]
    assert "<svg" in (tmp_path / "new" / "audit" / "audit.html").read_text()
    assert "audit in new/audit: audit.json, audit.html" in done.stdout
