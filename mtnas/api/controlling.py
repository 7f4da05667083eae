"""`mtnas.control`: how far budget and preference control a trained elastic model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas.api.data import Tasks, make_tasks
from mtnas.api.given import Out, identity, tasks_identity
from mtnas.api.known import Known, learn
from mtnas.api.profiling import DeviceProfile
from mtnas.base.errors import JobError
from mtnas.base.files import write_json
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.model import ElasticModel
from mtnas.score.config import ScoreConfig
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Bounds
from mtnas.search.front import Front
from mtnas.search.questions import Reference
from mtnas.stages.configure import JOURNAL, evaluations_of
from mtnas.stages.context import RunContext
from mtnas.stages.control import JOURNAL as REPORT_JOURNAL
from mtnas.stages.control import RESULT, Inquiry, control_text, inquire, unpruned
from mtnas.train.references import References


@dataclass(frozen=True)
class Control:
    """The measures; `docs/control.md` tells what each means.

    Args:
        record: everything, as written to `control.json`.
    """

    record: Mapping[str, Any]

    @property
    def mean_hypervolume(self) -> float:
        """Over the budgets; one without any network counts 0."""
        return float(self.record["mean_hypervolume"])

    @property
    def lowest_rank(self) -> float:
        """The lowest rank correlation of preference and score over tasks and budgets; 0 where nothing moves."""
        return float(self.record["lowest_rank"])

    def to_json(self) -> dict[str, Any]:
        return dict(self.record)

    def __str__(self) -> str:
        return control_text(self.record)


def control(
    elastic: ElasticModel,
    tasks: Tasks,
    data: Dataset,
    profile: DeviceProfile | None = None,
    *,
    budgets: Sequence[Bounds] = (),
    reference: Mapping[str, float] | References | None = None,
    front: Front | None = None,
    count: int = 20,
    sweep: int = 5,
    config: ConfigureConfig | None = None,
    score: ScoreConfig | None = None,
    out: Out = None,
    progress: Progress | None = None,
) -> Control:
    """Turn both dials over a fixed set of preferences and budgets, and measure what they do.

    Networks are chosen on the data's `select` split and scored on `report`. Reported for each budget: hypervolume of
    the loss ratios, rank correlation of preference and score for each task, range of each score, budget error,
    uniformity.

    Args:
        elastic: trained.
        tasks: names of targets, tasks by name, or None for every output that is a target of the data.
        data: its splits `select`, `calibrate` and `report` are used.
        profile: from `mtnas.profile` of this elastic model; without it, only counted costs can be limited.
        budgets: limits by name each, `[{"latency_ms": "50%"}, ...]`; by default four between the extremes.
        reference: single-task scores, as `mtnas.references` or task -> score on the report split; by default those of
            the unpruned network.
        front: pick from this front instead of configuring.
        count: preferences spread over the simplex.
        sweep: steps of each task's sweep from none to all of the weight; 0 for none.
        config: how to search the encoder.
        score: images behind a score that networks are chosen by.
        out: folder for `control.json` and the journals of scores; the same call continues where it was interrupted.
        progress: shows a bar.

    Raises:
        JobError: unknown tasks or limits, or a profile of another model.
    """
    found = make_tasks(tasks, data, elastic.tasks)
    given: dict[str, Any] = {"profile": profile, "score": score}
    known = learn(elastic, tasks=found, data=data, **{name: part for name, part in given.items() if part is not None})
    chooser = "configure" if front is None else "front"
    inquiry = Inquiry(tuple(budgets), chooser, count, sweep, config or ConfigureConfig())
    context = known.context(elastic, out, progress)
    if out is None:
        return Control(_asked(context, known, inquiry, reference, front, None))
    with context.run.locked():
        record = _asked(context, known, inquiry, reference, front, Path(out))
        write_json(Path(out) / RESULT, record)
    return Control(record)


def _asked(
    context: RunContext,
    known: Known,
    inquiry: Inquiry,
    reference: Mapping[str, float] | References | None,
    front: Front | None,
    folder: Path | None,
) -> dict[str, Any]:
    elastic, tasks = context.trained, context.tasks
    told = {**identity(elastic), "tasks": tasks_identity(dict(tasks)), "data": context.data_fingerprint}
    scores = evaluations_of(context, told, folder and folder / REPORT_JOURNAL, split="report")
    compared = unpruned(context, scores) if reference is None else _reference(reference, tuple(tasks))
    subject = known.subject(context, folder and folder / JOURNAL)
    return inquire(subject, scores, compared, inquiry, front, context)


def _reference(reference: Mapping[str, float] | References, tasks: Sequence[str]) -> Reference:
    """Scores by task of single-task networks, or of whatever else the caller compares with."""
    if isinstance(reference, References):
        scores = reference.scores("report")
        primary = {name: scores[name][task.primary.name] for name, task in reference.tasks.items() if name in tasks}
        return Reference("single-task networks", primary)
    missing = [task for task in tasks if task not in reference]
    if missing:
        raise JobError("a reference score for every task", received=f"none for {', '.join(missing)}", where="reference")
    return Reference("given scores", {task: float(reference[task]) for task in tasks})
