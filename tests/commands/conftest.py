"""Commands in this process: its own settings stay as they are, and what is trained is written down."""

import pytest
from progress_recorder import recording

from ltu_jax.commands import processes


@pytest.fixture
def labels(monkeypatch):
    """What was trained."""
    labels = []
    monkeypatch.setattr(processes, "use_devices", lambda config, options: None)
    monkeypatch.setattr(processes, "keep_compiled", lambda cache: None)
    monkeypatch.setattr(processes, "progress", lambda: recording([], labels=labels))
    return labels
