"""What no room can check alone: settings of one room that must fit those of another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from mtnas.base.errors import JobError
from mtnas.base.tables import nearest
from mtnas.data.table import TARGETS
from mtnas.encoders.table import CHOICE
from mtnas.job.schema import Job, TaskConfig
from mtnas.space.rules import read_rules


def settled(job: Job) -> Job:
    """The job with its tasks written out: every target of the data set where it names none."""
    names = job.data.targets or TARGETS.get(job.data.name, ())
    tasks = job.tasks or tuple(TaskConfig(name=name) for name in names)
    targets = job.data.targets or tuple(task.name for task in tasks)
    return dataclasses.replace(job, tasks=tasks, data=dataclasses.replace(job.data, targets=targets))


def check(job: Job, source: str) -> None:
    """Raise `JobError` for the first setting that does not fit another room's."""
    names = [task.name for task in job.tasks]
    _check_tasks(job, names, source)
    _check_choices(job, source)
    for key in ("floors", "preference"):
        _known(getattr(job, key), names, "a task of this job", f"{source}: {key}")
    for task, preference in job.preference.items():
        if not (math.isfinite(preference) and preference >= 0):
            raise JobError("0 or more", received=str(preference), where=f"{source}: preference.{task}")
    for key in ("float_heads", "float_branches"):
        _known(getattr(job.quantize, key), names, "a task of this job", f"{source}: quantize.{key}")
    for limit in job.budget.limits:
        if limit.percent and limit.amount > 100:
            raise JobError(
                "at most 100% of the full-size network",
                received=f"{limit.amount:g}%",
                where=f"{source}: budget.{limit.name}",
                cure="a network can only get smaller: remove the limit, or write an absolute bound",
            )
    for floor in job.floors.values():
        if floor.percent and floor.amount > 0:
            raise JobError(
                "a percent of 0 or below",
                received=f"{floor.amount:g}%",
                where=f"{source}: floors.{floor.task}",
                cure=f"write {-floor.amount:g}% for 'at most {floor.amount:g} percent worse'",
            )


def _check_tasks(job: Job, names: list[str], source: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise JobError("each task once", received=f"{twice[0]!r} twice", where=f"{source}: tasks")
    if not names:
        raise JobError("at least one task", where=f"{source}: tasks", cure="name targets of the data set")
    if job.data.name in TARGETS:
        known = TARGETS[job.data.name]
        _known(names, known, f"a target of the data set {job.data.name!r}", f"{source}: tasks")
        _known(job.data.targets, known, f"a target of the data set {job.data.name!r}", f"{source}: data.targets")
    _known(names, job.data.targets, "a target named in data.targets", f"{source}: tasks")


def _check_choices(job: Job, source: str) -> None:
    """An encoder of which something is to be chosen wants rules that let it be chosen."""
    settings = () if job.model.factory else job.model.encoder_options.items()
    for name in (name for name, value in settings if value == CHOICE):
        if not read_rules(job.space.rules).operators:
            raise JobError(
                "a search space with operators: true",
                received=f"space.rules {job.space.rules}",
                where=f"{source}: model.{name}",
                cure=f"write space: {{rules: operators}} or {{rules: everything}}, or one {name} for all blocks",
            )


def _known(names: Iterable[str], known: Iterable[str], expected: str, where: str) -> None:
    known = tuple(known)
    for name in names:
        if name not in known:
            raise JobError(expected, received=repr(name), where=where, cure=nearest(name, known))
