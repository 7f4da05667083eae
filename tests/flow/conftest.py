"""No test of this folder waits for measurements of others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_measuring_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is timed for its own sake: do not wait for other measurements on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
