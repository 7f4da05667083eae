"""A finished run, asked for some of its tasks: same weights and data, scores and costs of these tasks' networks alone.

Latency of such networks is not that of the whole ones less a decoder: runtimes fuse anew. So they have a profile of
their own, measured once and kept in `subsets/<tasks>/` of the run, with the scores.
"""

from __future__ import annotations

from collections.abc import Iterable

from mtnas.base.files import content_hash
from mtnas.job.narrow import chosen, narrowed
from mtnas.measure.profile_files import Profile, load_profile
from mtnas.space.space import Space
from mtnas.stages.context import RunContext
from mtnas.stages.profile import measured_profile

FOLDER = "subsets"


def for_tasks(context: RunContext, tasks: Iterable[str] | None, where: str = "--tasks") -> RunContext:
    """The run for these tasks alone; the run itself for all of them, and for None.

    Args:
        context: of a finished run, whose folder is held.
        tasks: names of its tasks.
        where: named in messages.

    Raises:
        JobError: a task that the run has not, one named twice, or none at all; or a network that is `inseparable`.
    """
    from mtnas.elastic.task_subset import check_separable

    names = tuple(context.tasks) if tasks is None else chosen(context.tasks, tasks, where)
    if len(names) == len(context.tasks):
        return context
    check_separable(context.trained.model, names)
    job = narrowed(context.job, names, where)
    part = RunContext(job, context.run.path / FOLDER / "+".join(names), context.progress)
    part.dataset = context.dataset
    part.elastic = part.trained = context.trained
    part.graph = context.graph.answering(names)
    part.profile = _profile(part, context.run.result_hash("profile"))
    return part


def open_space(space: Space, tasks: Iterable[str]) -> Space:
    """The space in which all that none of these tasks owns is held at its largest: it is in none of their networks."""
    names = set(tasks)
    others = [choice for choice in space.choices if choice.owners and not names & set(choice.owners)]
    return space.with_fixed({choice.name: choice.options[-1] for choice in others}) if others else space


def _profile(part: RunContext, before: str) -> Profile:
    """Measured where there is none that belongs to the run's; an interruption continues."""
    inputs = content_hash({"profile": before, "tasks": list(part.tasks)})
    folder = part.run.stage("profile") / "device"
    if part.run.finished("profile", inputs):
        return load_profile(folder, part.job.device)
    part.progress.note(f"profile of networks for {', '.join(part.tasks)} alone ...")
    part.run.begin("profile", inputs)
    profile = measured_profile(part, folder.parent)
    part.run.finish("profile", inputs, {"created": profile.created}, 0.0)
    return profile
