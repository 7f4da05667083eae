"""One finished run for all tests of this folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from tiny import FinishedRun, finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finished_run(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture(autouse=True)
def _own_measuring_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is timed for its own sake: do not wait for other measurements on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
