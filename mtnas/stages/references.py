"""Every network of the run against its references: single-task networks, the unpruned supernet, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import JobError
from mtnas.base.files import write_json
from mtnas.score.config import REFERENCES
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from mtnas.tasks.base import Task

#: the headline first
SHOWN = ("one_metric", "task_then_metric", "flat")
CACHE = ".references"
Scores = Mapping[str, Mapping[str, float]]


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `references.json`: scores of the references, and the delta of every network that was verified."""
    mode = context.job.references.mode
    record: dict[str, Any] = {"schema": "references/1", "mode": mode, "against": REFERENCES[mode]}
    if mode != "none":
        rows = context.run.result("verify", "verify.json")["table"]
        scores = {row["name"]: row["scores"] for row in rows}
        reference = scores["full"] if mode == "full" else _trained(context, record)
        record |= {"scores": reference, "split": "report", **deltas(scores, reference, context.tasks)}
    write_json(folder / "references.json", record)
    return record


def _trained(context: RunContext, record: dict[str, Any]) -> Scores:
    """The single-task networks' scores on the report split; those on the select split go into the record."""
    from mtnas.train.references import Recipe, epochs_of, train_references

    job = context.job
    config = epochs_of(job.train, job.references.epochs)
    recipe = Recipe(job.model, context.dataset, config, job.seed, job.score)
    cache = Path(job.references.cache) if job.references.cache else context.run.path.parent / CACHE
    found = train_references(recipe, context.tasks, cache, context.progress)
    record |= {"epochs": config.epochs, "scores_select": found.scores("select")}
    return found.scores("report")


def deltas(networks: Mapping[str, Scores], reference: Scores, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Titles of the columns, which state the convention, and each network's values; null where one is not defined."""
    from mtnas.score.delta import CONVENTIONS, delta

    metrics = {name: task.metrics for name, task in tasks.items()}
    values: dict[str, dict[str, float | None]] = {}
    undefined: dict[str, str] = {}
    for network, scores in networks.items():
        values[network] = {}
        for convention in SHOWN:
            try:
                values[network][convention] = delta(scores, reference, metrics, convention=convention)
            except JobError as error:
                values[network][convention] = None
                undefined[convention] = str(error).replace("\n ", ",")
    return {"columns": {name: CONVENTIONS[name] for name in SHOWN}, "deltas": values, "undefined": undefined}
