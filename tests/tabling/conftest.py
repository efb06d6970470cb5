"""Tables of made-up runs, as the command prints them."""

import itertools
import json
import re

import made_cells
import pytest
from made_audit import finding, made_audit
from made_cells import RMIA, SEEDS

from ltu_jax import tables
from ltu_jax.setting import ConfigError


@pytest.fixture
def show(tmp_path, capsys):
    """Runs the program on cells and returns what it prints."""
    count = itertools.count()

    def run(number, cells, *flags):
        path = made_cells.write(tmp_path / f"{next(count)}.jsonl", cells)
        tables.main([str(number), path, *flags])
        return capsys.readouterr().out

    return run


@pytest.fixture
def refusal(tmp_path, capsys):
    """Runs the program on cells that it refuses and returns its one line."""

    def run(number, cells):
        with pytest.raises(ConfigError) as refused:
            tables.main([str(number), made_cells.write(tmp_path / "r.jsonl", cells)])
        assert capsys.readouterr().out == ""
        assert re.fullmatch(r"[^\n]+; allowed: [^\n]+", str(refused.value))
        return str(refused.value)

    return run


@pytest.fixture
def audited(tmp_path):
    """Folders of runs of three seeds; the RMIA of each is audited, its U-LiRA of the first two alone."""
    folders = []
    for seed, triple in enumerate(SEEDS):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        result = made_cells.cell(seeds=triple)["result"] | {"request_sha256": f"{seed}"}
        found = [finding("rmia", RMIA[seed], 0.02, 0.03, 0.9 + seed / 100, [0.48 - seed / 100, 0.52], 0.5)]
        found += [finding("lira", 0.6, 0.01, 0.01)] if seed < 2 else []
        audit = made_audit(run={name: result[name] for name in ("method", "request_sha256")}, findings=found)
        for name, content in (("result", result), ("audit", audit), ("config", {"seed": seed})):
            (folder / f"{name}.json").write_text(json.dumps(content))
        folders.append(str(folder))
    return folders
