"""Runs that benchmarks work on: an existing folder, or the embedded job run up to its profile."""

from __future__ import annotations

from pathlib import Path

from mtnas.base.errors import JobError
from mtnas.console import ConsoleProgress
from mtnas.flow import run_flow
from mtnas.job.read import read_job
from mtnas.stages.context import RunContext
from mtnas.stages.folder import RunFolder

DEMO = Path("runs") / "demo"
CACHE = Path("runs") / "bench"
NEEDED = ("space", "train", "profile")


def trained_run(path: Path | None) -> RunContext:
    """A run with a trained and profiled supernet.

    Without a path: the demo's folder if it went so far, else the embedded job is run up to there in the cache folder.
    """
    if path is not None:
        return opened(path, NEEDED)
    if DEMO.exists() and not missing(DEMO, NEEDED):
        return opened(DEMO, NEEDED)
    context = RunContext(read_job(None), CACHE / "demo", ConsoleProgress())
    run_flow(context, until="profile")
    return context


def opened(path: Path, stages: tuple[str, ...]) -> RunContext:
    """The run in a folder, with these stages finished; `JobError` when one is not. Nothing is written there."""
    absent = missing(path, stages)
    if absent:
        raise JobError(
            f"a run that has finished {', '.join(stages)}",
            received=f"{', '.join(absent)} not finished",
            where=str(path),
            cure=f"mtnas run --out {path}",
        )
    return RunContext(read_job(path / "job.resolved.yaml"), path, ConsoleProgress())


def missing(path: Path, stages: tuple[str, ...]) -> list[str]:
    """Those of the stages that this folder has not finished."""
    return [stage for stage in stages if not (RunFolder(path).stage(stage) / "stage.json").exists()]
