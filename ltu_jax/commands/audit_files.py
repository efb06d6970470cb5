"""Writes what an audit found; audits a model that was not made here, from files of its answers, without JAX."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltu_jax.auditing.outputs import audit_outputs
from ltu_jax.files import make_folder, write_whole
from ltu_jax.reporting.audit_page import render_audit
from ltu_jax.reporting.terminal import print_audit
from ltu_jax.setting import ConfigError, plain

FILES = ("audit.html", "audit.json")
"""What is written; the last one last."""


def audit_files(target: Path, references: Sequence[Path], original: Path | None, out: Path) -> int:
    """Audits the answers in files, and writes what was found into a folder; the exit status.

    Raises:
      ConfigError: as ``audit_outputs``, and if the folder holds a run.
    """
    if (out / "result.json").exists():
        raise ConfigError(f"--workdir: {str(out)!r} is the folder of a run; allowed: another one, for these answers")
    outcome = audit_outputs(target, references, original)
    make_folder(out)
    write(out, outcome)
    return 0


def write(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Writes the page and ``audit.json``, and prints the table."""
    texts = render_audit(outcome), json.dumps(outcome, indent=2) + "\n"
    for name, text in zip(FILES, texts, strict=True):
        write_whole(folder / name, text)
    print_audit(outcome)
    print(plain(f"audit in {folder}: {', '.join(sorted(FILES, reverse=True))}"))
