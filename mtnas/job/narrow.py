"""A job for some of its tasks: what it says about the others is left out with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from pathlib import Path

from mtnas.base.errors import JobError
from mtnas.base.tables import picked
from mtnas.job.schema import Job


def narrowed(job: Job, tasks: Iterable[str], where: str = "tasks") -> Job:
    """The same job for these tasks alone, in the job's order, under a name and in a folder of its own.

    Their weights, floors and preferences stay. The data set has the same images and leaves the other targets unread;
    trained references are shared with the whole job's run.

    Args:
        job: with its tasks written out.
        tasks: names of its tasks; all of them leave the job as it is.
        where: named in messages.

    Raises:
        JobError: a task that the job has not, one named twice, or none at all.
    """
    names = chosen([task.name for task in job.tasks], tasks, where)
    if len(names) == len(job.tasks):
        return job
    part = "+".join(names)
    dropped = {task.name for task in job.tasks} - set(names)
    quantize = dataclasses.replace(
        job.quantize,
        float_heads=_without(job.quantize.float_heads, dropped),
        float_branches=_without(job.quantize.float_branches, dropped),
    )
    return dataclasses.replace(
        job,
        name=f"{job.name}-{part}",
        out=f"{Path(job.out)}-{part}" if job.out else None,
        data=dataclasses.replace(job.data, targets=_without(job.data.targets, dropped)),
        tasks=tuple(task for task in job.tasks if task.name in names),
        floors={name: floor for name, floor in job.floors.items() if name in names},
        preference={name: weight for name, weight in job.preference.items() if name in names},
        quantize=quantize,
    )


def chosen(known: Iterable[str], tasks: Iterable[str], where: str) -> tuple[str, ...]:
    """The named tasks in the order of the known ones; see `narrowed` for what is refused."""
    asked = list(tasks)
    found = picked(asked, known, "a task of this job", where)
    for name in found:
        if asked.count(name) > 1:
            raise JobError("each task once", received=f"{name!r} twice", where=where)
    return found


def _without(names: Iterable[str], dropped: Container[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in dropped)
