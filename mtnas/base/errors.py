"""Two families of error: what the user can mend (`UserError`), and what we must (`InternalError`).

A message for the user has four parts: what was expected, what came, where, and the cure.
"""

from __future__ import annotations

import traceback
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; documented in the README."""

    DONE = 0
    INTERNAL = 1
    JOB = 2
    MISSED = 3
    MISSING = 4
    INTERRUPTED = 130


class MtnasError(Exception):
    """Root of every error raised on purpose."""

    exit_code = ExitCode.INTERNAL


class InternalError(MtnasError):
    """A broken invariant of ours; the user is asked to report it."""


class UserError(MtnasError):
    """Something the user can mend.

    Args:
        expected: what would have been right.
        received: what came instead.
        where: the file, key, layer or task.
        cure: what to do about it.
    """

    exit_code = ExitCode.JOB

    def __init__(self, expected: str, *, received: str = "", where: str = "", cure: str = "") -> None:
        self.expected = expected
        self.received = received
        self.where = where
        self.cure = cure
        parts = [f"{where}: {expected}" if where else expected]
        if received:
            parts.append(f"received: {received}")
        if cure:
            parts.append(f"cure: {cure}")
        super().__init__("\n  ".join(parts))


def raised_at(error: BaseException) -> str:
    """File, line and function that raised it, for errors out of the user's own code; empty where it is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened; its type where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def said(error: BaseException) -> str:
    """Type and first line of an error, shortened."""
    kind = type(error).__name__
    return f"{kind}: {first_line(error)}" if str(error).strip() else kind


class JobError(UserError):
    """The job file or the arguments are wrong."""


class DataError(UserError):
    """A data set is missing, truncated or mislabelled."""


class SpaceError(UserError):
    """A search space, arch or selection is not valid."""


class ModelError(UserError):
    """A model breaks the contract `image (B,C,H,W) -> dict[task, Tensor]`."""


class CheckpointError(UserError):
    """A checkpoint or result file is corrupt or belongs to something else."""


class StorageError(UserError):
    """The output folder cannot be written, or another run holds it."""


class TrainingDiverged(UserError):
    """A loss became NaN or infinite."""


class ProcessLost(UserError):
    """Another process of a training by several has ended, or does not answer."""

    exit_code = ExitCode.MISSING


class StaleStatistics(UserError):
    """Batch-norm statistics do not belong to the selection that is about to run."""


class BudgetMissed(UserError):
    """The measured network does not keep a limit."""

    exit_code = ExitCode.MISSED


class FloorMissed(UserError):
    """No candidate keeps a task's floor."""

    exit_code = ExitCode.MISSED


class Infeasible(UserError):
    """No network of the space can keep the limits."""

    exit_code = ExitCode.MISSED


class VerificationFailed(UserError):
    """The exported file does not compute what the trained network computes."""

    exit_code = ExitCode.MISSED


class DeviceMissing(UserError):
    """A device cannot be reached or cannot be measured."""

    exit_code = ExitCode.MISSING


class PackageMissing(UserError):
    """An optional package is not installed."""

    exit_code = ExitCode.MISSING


class Interrupted(MtnasError):
    """Stopped by the user; the same command resumes."""

    exit_code = ExitCode.INTERRUPTED
