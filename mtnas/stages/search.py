"""Stage 4: search under the budget, a random line of equal length beside it, and measure the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.search.front import hypervolume_history
from mtnas.search.hypervolume import reference_point
from mtnas.search.loop import reuse, search
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.evaluate import Evaluator
from mtnas.stages.front import measured_front, row_of


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write journals, `front.json`, `search.json`; raises `Infeasible` when nothing keeps budget and floors."""
    evaluator = Evaluator(context)
    evaluator.check_floors()
    problem, config = evaluator.problem, context.job.search
    seed = context.seed("search")
    shared: dict[str, Any] = {"seed": seed, "progress": context.progress, "same": evaluator.network_id}
    trials = search(problem, evaluator, config, folder / "trials.jsonl", **shared)
    lines: dict[str, tuple[Trial, ...]] = {config.strategy: trials}
    random_config = config.random_line()
    if random_config is not None:
        known = reuse(trials, evaluator, evaluator.network_id)
        lines["random"] = search(problem, known, random_config, folder / "random.jsonl", **shared)
    front = measured_front(evaluator, trials, folder / "measured.jsonl")
    chosen = front.pick(preference=context.job.preference)
    extremes = [trial.outcome for trial in trials[:2]]
    reference = reference_point(problem, extremes)
    full = problem.trial(0, evaluator.elastic.space.largest, evaluator.full)
    write_json(folder / "front.json", front.to_json())
    write_json(
        folder / "search.json",
        {
            "schema": "search/1",
            "strategy": config.strategy,
            "objectives": [objective.to_json() for objective in problem.objectives],
            "limits": {limit.name: {"bound": limit.bound, "text": limit.text} for limit in evaluator.limit_constraints},
            "floors": floor_rows(evaluator),
            "reference_point": reference,
            "hypervolume": {name: hypervolume_history(problem, line, reference) for name, line in lines.items()},
            "front": [row_of(evaluator, trial) for trial in front.trials],
            "chosen": row_of(evaluator, chosen),
            "full": row_of(evaluator, full),
        },
    )
    return {"chosen": chosen.arch.id, "front": [trial.arch.id for trial in front.trials]}


def floor_rows(evaluator: Evaluator) -> dict[str, dict[str, Any]]:
    """The floors as absolute numbers of each task's primary metric."""
    return {
        floor.name: {
            "bound": floor.bound,
            "metric": evaluator.context.tasks[floor.name].primary.name,
            "text": floor.text,
        }
        for floor in evaluator.floors
    }


def chosen_selection(context: RunContext) -> Selection:
    """The network that the search chose."""
    record = read_json(context.run.stage("search") / "search.json", schema="search/1")
    return context.elastic.selection(Arch.from_json(record["chosen"]["arch"]))
