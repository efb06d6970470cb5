"""What is written of an audit, and where answers in files may be audited."""

import json

import numpy as np
import pytest

from ltu_jax.commands.audit_files import audit_files
from ltu_jax.setting import ConfigError


def answers(path, seed):
    rng, labels = np.random.default_rng(seed), np.arange(80) % 4
    arrays = {of: rng.normal(size=(80, 4)) for of in ("forget", "held_out")}
    np.savez(path, **arrays, forget_labels=labels, held_out_labels=labels)
    return path


def test_page_and_figures_are_written_and_say_the_same(tmp_path, capsys):
    target, *retrains = (answers(tmp_path / f"{k}.npz", k) for k in range(3))
    assert audit_files(target, retrains, None, tmp_path / "new" / "audit") == 0
    made = tmp_path / "new" / "audit"
    assert sorted(path.name for path in made.iterdir()) == ["audit.html", "audit.json"]
    figure = json.loads((made / "audit.json").read_text())["findings"][0]["unlearned"]["value"]
    assert f"{figure:.3f}" in (made / "audit.html").read_text() and f"{figure:.3f}" in capsys.readouterr().out


def test_the_folder_of_a_run_is_not_written_to(tmp_path):
    (tmp_path / "result.json").touch()
    with pytest.raises(ConfigError, match="is the folder of a run"):
        audit_files(answers(tmp_path / "a.npz", 0), [], None, tmp_path)
    assert not (tmp_path / "audit.json").exists()
