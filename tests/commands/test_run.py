"""Runs together: what becomes of the others where one fails; whole commands are in ``test_end_to_end.py``."""

import pathlib
import types

from ltu_jax.commands import run


def test_where_one_of_several_seeds_diverges_the_others_are_run_without_it(monkeypatch, capsys):
    done = []

    def run_or_diverge(runs, at_once, options, progress):
        if any(one.workdir.name == "b" for one in runs):
            raise FloatingPointError("loss not finite")
        done.extend(one.workdir.name for one in runs)

    monkeypatch.setattr(run, "_run", run_or_diverge)
    runs, options = [run.Job(None, pathlib.Path(name), None) for name in "abc"], types.SimpleNamespace(debug=False)
    assert not run._attempt(runs, 3, options, None)
    assert done == ["a", "c"] and "error: b: loss not finite" in capsys.readouterr().err
    assert run._attempt(runs[:1], 3, options, None)
