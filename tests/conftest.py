"""Shared set-up of the tests: `tests/` is importable (for `zoo`), torch runs on one thread, seeds are fixed."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tiny import FinishedRun

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks are faster, and repeatable, on one thread."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


# A busy machine draws examples slowly: that is no failure.
settings.register_profile("suite", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_operators() -> None:
    """The exporter reads the source of all its operators in every export: here once, which is a third of the time."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # it is torch's own, and may move
        return
    once = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    ONNXRegistry.from_torchlib = once  # type: ignore[assignment, method-assign]


@pytest.fixture
def first_export() -> None:
    """The next export reads its operators anew, and says what it says then."""
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib.cache_clear()  # type: ignore[attr-defined]


@pytest.fixture(scope="module", autouse=True)
def _seeded() -> None:
    """What a file draws from global generators does not depend on the files before it."""
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """One finished run, for all tests of the session in all its workers; nobody may change it."""
    from tiny import finished_run

    folder = tmp_path_factory.getbasetemp()
    return finished_run((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "tiny")
