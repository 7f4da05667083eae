"""A run's context whose parts the caller gave, and the folder of one call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.files import content_hash
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.model import ElasticModel
from mtnas.job.schema import Job
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.stages.context import RunContext
from mtnas.stages.folder import RunFolder
from mtnas.tasks.base import Task
from mtnas.train.checkpoint import weights_hash

Out = str | Path | None


@dataclass
class Call:
    """One call's folder.

    Args:
        run: the folder of all calls with this `out`.
        folder: this call's own.
        done: the same call has finished before; its files are there.
    """

    run: RunFolder
    folder: Path
    name: str
    inputs: str
    done: bool
    started: float

    def finish(self, result: Any) -> None:
        """Mark the call as done."""
        if not self.done:
            self.run.finish(self.name, self.inputs, result, time.monotonic() - self.started)


@contextmanager
def workplace(out: Out, name: str, inputs: Any) -> Iterator[Call]:
    """The folder of one call, laid out like a run's; without `out`, a temporary one.

    The same call into the same `out` continues where it was interrupted. A call with other inputs sets the old folder
    aside under a new name.

    Args:
        out: the folder, or None.
        name: a stage's name.
        inputs: whatever the call depends on, as JSON.
    """
    with tempfile.TemporaryDirectory(prefix="mtnas-") as scratch:
        run = RunFolder(Path(out) if out is not None else Path(scratch))
        key = content_hash({"stage": name, "mtnas": __version__, "inputs": inputs})
        with run.locked():
            done = run.finished(name, key)
            folder = run.stage(name) if done else run.begin(name, key)
            yield Call(run, folder, name, key, done, time.monotonic())


def given_context(
    job: Job,
    run: RunFolder,
    elastic: ElasticModel,
    data: Dataset | None = None,
    tasks: dict[str, Task] | None = None,
    progress: Progress | None = None,
) -> RunContext:
    """The context of a run in which the model, the data and the tasks are the caller's."""
    context = RunContext(job, run.path, progress)
    context.elastic = context.trained = elastic
    if data is not None:
        context.dataset = data
        elastic.calibrate_with(context.images("calibrate", job.score.calibrate_images, 32))
    if tasks is not None:
        context.tasks = tasks
    return context


def settle(job: Job, elastic: ElasticModel, data: Dataset) -> None:
    """Estimate the full network's batch-norm statistics now where its weights have changed since the last time.

    They belong to what identifies the network; estimated later, the same call would not be known again.
    """
    given_context(job, RunFolder(Path()), elastic, data)  # nothing is written
    elastic.statistics()


def identity(elastic: ElasticModel, *, weights: bool = True) -> dict[str, Any]:
    """What tells one elastic model from another."""
    found: dict[str, Any] = {"space": elastic.space.id, "input": list(elastic.example.shape[1:])}
    return {**found, "weights": weights_hash(elastic.state())} if weights else found


def tasks_identity(tasks: dict[str, Task]) -> list[Any]:
    return [task.spec.to_json() for task in tasks.values()]


def device_config(device: str, config: MeasureConfig | None = None) -> MeasureConfig:
    """How to measure on a device: the settings as they are, or the usual ones with what the device declares."""
    if config is not None:
        return config
    known = read_device(device)
    return MeasureConfig(device=device, runtime=known.runtime, threads=known.threads)
