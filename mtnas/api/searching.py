"""`mtnas.search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from mtnas.api.data import Tasks, check_labels, make_tasks
from mtnas.api.given import Call, Out, given_context, identity, settle, tasks_identity, workplace
from mtnas.api.known import check_profile, learn
from mtnas.api.profiling import DeviceProfile
from mtnas.base.budget import Budget, Floor
from mtnas.base.files import write_json
from mtnas.base.groups import Selection
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.elastic.model import ElasticModel
from mtnas.job.schema import Job
from mtnas.measure.config import MeasureConfig
from mtnas.score.config import ScoreConfig
from mtnas.search.config import SearchConfig
from mtnas.search.front import Front
from mtnas.stages import search as stage
from mtnas.stages.context import RunContext
from mtnas.stages.costs import Cost, check_budget, counted_costs, measured_singly
from mtnas.stages.folder import RunFolder
from mtnas.stages.profile import full_costs
from mtnas.tasks.base import Task

Bounds = Mapping[str, float | int | str]


def search(
    elastic: ElasticModel,
    tasks: Tasks,
    data: Dataset,
    profile: DeviceProfile,
    *,
    budget: Bounds | None = None,
    floors: Bounds | None = None,
    preference: Mapping[str, float] | None = None,
    trials: int | None = None,
    config: SearchConfig | None = None,
    score: ScoreConfig | None = None,
    out: Out = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Front:
    """Find the best trade-offs between every task's score and latency; the returned front is measured, not predicted.

    Networks are scored on the data's `select` split with batch-norm statistics from `calibrate`.
    `front.pick(budget=..., preference=..., floors=...)` chooses one, `elastic.extract` takes it out.

    Args:
        elastic: trained, or made from a trained network.
        tasks: names of targets, tasks by name, or None for every output that is a target of the data.
        data: its splits `select` and `calibrate` are used.
        profile: from `mtnas.profile` of this elastic model; costs are those of the networks that it measured, which
            answer all tasks or those of `mtnas.profile(elastic, tasks=...)`.
        budget: hard limits, absolute or a percent of the unpruned network: `{"latency_ms": "50%", "size_mb": 2.0}`.
        floors: the worst score of a task, absolute or relative to the unpruned network: `{"depth": "-3%"}`.
        preference: which networks near the best are measured first; 1 where silent.
        trials: networks to evaluate, when `config` should stay as it is otherwise.
        config: strategy, population and the rest; by default NSGA-II without a random-search line beside it.
        score: images behind a score.
        out: folder for the journal and results (`4-search` in it); the same call continues where it was interrupted,
            no network is evaluated twice.
        seed: of the strategy.
        progress: shows a bar.

    Raises:
        Infeasible: no network keeps the budget; names the limit and the cheapest way out.
        FloorMissed: even the unpruned network is below a floor.
        JobError: unknown tasks, limits or strategies, or a profile of another model.
        DataError: the select split has no label of a task.
    """
    found = make_tasks(tasks, data, elastic.tasks)
    wishes: dict[str, Bounds] = {"budget": budget or {}, "floors": floors or {}, "preference": preference or {}}
    job = _job(wishes, _with_trials(config, trials), score or ScoreConfig(), profile.config, seed)
    check_labels(found, data, ["select"], job.score.select_images)
    check_profile(elastic, profile, found)
    settle(job, elastic, data)
    with workplace(out, "search", _inputs(job, elastic, found, data, profile)) as call:
        if not call.done:
            inputs = RunFolder(call.folder / "inputs")
            _search(call, given_context(job, inputs, elastic, data, found, progress), profile)
        learn(elastic, tasks=found, data=data, profile=profile, score=job.score)
        return Front.load(call.folder / "front.json")


def _with_trials(config: SearchConfig | None, trials: int | None) -> SearchConfig:
    config = config or SearchConfig(random_trials=0)
    return config if trials is None else replace(config, trials=trials)


def _job(
    wishes: Mapping[str, Bounds], config: SearchConfig, score: ScoreConfig, device: MeasureConfig, seed: int
) -> Job:
    """The wishes as a job reads them."""
    return Job(
        seed=seed,
        device=device,
        budget=Budget.parse(wishes["budget"]),
        floors={task: Floor.parse(task, text) for task, text in wishes["floors"].items()},
        preference={task: float(weight) for task, weight in wishes["preference"].items()},
        score=score,
        search=config,
    )


def _inputs(
    job: Job, elastic: ElasticModel, tasks: dict[str, Task], data: Dataset, profile: DeviceProfile
) -> dict[str, object]:
    return {
        **identity(elastic),
        "tasks": tasks_identity(tasks),
        "data": data.info.fingerprint,
        "profile": profile.record.created,
        "budget": [str(limit) for limit in job.budget.limits],
        "floors": {name: asdict(floor) for name, floor in job.floors.items()},
        "job": [dict(job.preference), asdict(job.score), asdict(job.search), asdict(job.device), job.seed],
    }


def _search(call: Call, context: RunContext, profile: DeviceProfile) -> None:
    context.graph, context.profile = profile.graph, profile.record
    record = profile.to_json()
    for name, cost in measured_singly(context, context.cut(Selection.of({}))).items():
        record[name] = cost.to_json()
    write_json(context.run.stage("profile") / "profile.json", record)
    check_budget(context, {"largest": full_costs(context), "smallest": _smallest_costs(context)})
    call.finish(stage.run(context, call.folder))


def _smallest_costs(context: RunContext) -> dict[str, Cost]:
    point = context.profile.extreme("smallest")
    costs: dict[str, Cost] = {**counted_costs(context, point.selection)}
    costs["latency_ms"] = point.record.statistic(context.job.device.statistic)
    return {**costs, **measured_singly(context, context.cut(point.selection))}
