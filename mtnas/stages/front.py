"""The returned front: really measured, never only predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtnas.base.groups import size_text
from mtnas.base.journal import Journal
from mtnas.search.feasible import no_network
from mtnas.search.front import Front
from mtnas.search.shortlist import shortlist
from mtnas.search.trial import Trial
from mtnas.stages.evaluate import Evaluator


def measured_front(evaluator: Evaluator, trials: Sequence[Trial], journal_path: Path) -> Front:
    """Measure the most promising networks and keep those that nothing measured beats.

    Raises:
        Infeasible: no network keeps limits and floors once it is measured.
    """
    context, problem = evaluator.context, evaluator.problem
    tasks, count = tuple(context.tasks), context.job.search.measure_front
    full = problem.trial(0, evaluator.elastic.space.largest, evaluator.full)
    waiting, measured = distinct(evaluator, trials), list[Trial]()
    journal = Journal(journal_path)
    while not any(trial.feasible for trial in measured):
        batch = shortlist(problem, tasks, waiting, count, context.job.preference)
        if not batch:
            raise no_network(problem.constraints, [*measured, *waiting], "search")
        waiting = [trial for trial in waiting if trial not in batch]
        measured += _measured(evaluator, batch, journal)
    return Front.of(problem.objectives, tasks, measured, full)


def distinct(evaluator: Evaluator, trials: Sequence[Trial]) -> list[Trial]:
    """The first trial of every network: archs that differ in skipped blocks alone are measured and shown once."""
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(evaluator.network_id(trial.arch), trial)
    return list(first.values())


def _measured(evaluator: Evaluator, trials: Sequence[Trial], journal: Journal) -> list[Trial]:
    """The trials with measured latency, judged again; each measurement is in the journal before it counts."""
    past = {record["id"]: Trial.from_json(record) for record in journal.records()}
    missing = {t.arch.id: evaluator.elastic.selection(t.arch) for t in trials if t.arch.id not in past}
    costs = evaluator.measure(missing) if missing else {}
    for trial in trials:
        if trial.arch.id in past:
            continue
        judged = evaluator.with_costs(trial, costs[trial.arch.id])
        journal.append(judged.to_json())
        past[trial.arch.id] = judged
    # Records are written with sorted keys; an arch has the order of its space.
    return [replace(past[trial.arch.id], arch=trial.arch) for trial in trials]


def row_of(evaluator: Evaluator, trial: Trial) -> dict[str, Any]:
    """One network for the report: arch, widths, blocks, options, size, scores, costs, and what had been predicted."""
    selection = evaluator.elastic.selection(trial.arch)
    chosen = evaluator.elastic.options(selection)
    return {
        "id": trial.arch.id,
        "arch": trial.arch.to_json(),
        "widths": selection.widths(evaluator.elastic.groups),
        "skipped": list(selection.skipped),
        **({"chosen": chosen} if chosen else {}),
        "size": size_text(selection.size) if selection.size else None,
        "scores": {task: dict(metrics) for task, metrics in trial.outcome.scores.items()},
        "costs": {name: cost.to_json() for name, cost in trial.outcome.costs.items()},
        "predicted_latency_ms": evaluator.predict(selection).to_json(),
        "feasible": trial.feasible,
    }
