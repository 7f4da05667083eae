"""Shared set-up of the tests: `tests/` is importable (for `zoo`), torch runs on one thread."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks are faster, and repeatable, on one thread."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
