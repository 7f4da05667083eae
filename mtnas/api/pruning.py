"""`mtnas.prune`: a user's own plain network, channels removed globally, steps judged by measured latency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.api.data import Tasks, limited, make_tasks
from mtnas.api.given import Out, workplace
from mtnas.api.measuring import Bench, bench_settings
from mtnas.api.profiling import DeviceProfile
from mtnas.api.prune_result import Pruned, PruneResult
from mtnas.api.scores import ScoreFn, Scorer, make_scorer, task_losses
from mtnas.base.budget import Budget
from mtnas.base.errors import JobError
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection, axis_slices
from mtnas.base.progress import Progress, Silent
from mtnas.data.base import Dataset
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import FULL, ElasticModel, make_elastic
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.measure.gate import Verdict
from mtnas.measure.limits import check_limits
from mtnas.prune.config import PruneConfig
from mtnas.prune.importance import ImportanceInput, Losses, importance_of
from mtnas.prune.plan import Judgement, PrunePlan, PruneTools, plan_pruning
from mtnas.search.objectives import Constraint, limit_constraints
from mtnas.search.trial import Cost, cost_from_json
from mtnas.tasks.base import Task
from mtnas.train.checkpoint import weights_hash

UserBatches = Iterable[tuple[Tensor, Mapping[str, Tensor]]]
SLICED = "batch-norm statistics are those of the unpruned network: give batches= (or data=) to re-estimate them"


def prune(
    model: nn.Module,
    example_inputs: Tensor,
    *,
    score: ScoreFn | None = None,
    budget: Mapping[str, float | int | str] | None = None,
    floors: Mapping[str, float | int | str] | None = None,
    profile: DeviceProfile | str = "local-ort",
    tasks: Tasks = None,
    data: Dataset | None = None,
    batches: UserBatches | None = None,
    losses: Losses | None = None,
    lower_is_better: Sequence[str] = (),
    config: PruneConfig | None = None,
    ignored_layers: Sequence[str | nn.Module] = (),
    out: Out = None,
    progress: Progress | None = None,
) -> Pruned:
    """Remove channels of a trained plain network until it keeps a budget; the network given stays as it is.

    Every step removes the channels that matter least for the time they cost, and stays only when the measurement shows
    that it won time and no floor is missed. Nothing is trained: `mtnas.finetune(pruned, ..., teacher=model)` is next.
    A `OneOf` keeps the option that runs alone, a `SumOf` all its branches.

    Args:
        model: `image (B,C,H,W) -> dict[task, Tensor]`.
        example_inputs: normalised images (B,C,H,W) that it can run; their height and width are measured.
        score: `score(model) -> {task: value}` or one value, on data that is not used to report; higher is better.
        budget: limits, absolute or a percent of `model`: `{"latency_ms": "80%"}`, also `size_mb`, `macs`, `params`,
            `memory_mb`. By default `config.target` of the latency.
        floors: the worst score of a task, absolute or relative to `model`'s: `{"depth": "-3%"}`.
        profile: from `mtnas.profile` (device, protocol, and a predictor that steers where it fits), or a device's name.
        tasks, data: instead of `score`, `batches`, `losses`: primary metrics on `select`, all else on `calibrate`.
        batches: `(image_BCHW, targets)`, such as a DataLoader: re-estimates batch-norm statistics, judges importance.
        losses: `losses(outputs, targets) -> {task: scalar}`, for Taylor importance.
        lower_is_better: names in `score` that are errors.
        config: criterion and steps; by default Taylor importance where there are losses, else weight magnitude (L1).
        ignored_layers: modules, dotted names or globs whose output channels must stay.
        out: folder for the journal (`5-prune` in it); the same call continues where it was interrupted.
        progress: shows one line per step.

    Returns:
        `(pruned, result)`: a network in evaluation mode (a copy of `model` when nothing was won), and what was done.

    Raises:
        ModelError: the network breaks the contract, nothing in it may shrink, or a score is not a number.
        FloorMissed: the network is below a floor before pruning.
        JobError: unknown names, floors without scores, or Taylor importance without losses.
    """
    round_to = (config or PruneConfig()).step
    elastic = make_elastic(model, example_inputs, round_to=round_to, ignored_layers=ignored_layers)
    scorer = make_scorer(score, tasks, data, floors, lower_is_better, elastic.tasks)
    evidence = _evidence(make_tasks(tasks, data, elastic.tasks) if data else {}, data, batches, losses)
    config, limits = _settings(config, budget, evidence)
    subject = _subject(elastic, scorer, evidence.first(config.images), bench_settings(profile), progress)
    with workplace(out, "prune", _inputs(subject, limits, config)) as call:
        pruned = _Run(subject, limits, config, profile).pruned(call.folder, progress)
        call.finish({name: list(pair) for name, pair in pruned.result.widths.items()})
    return pruned


@dataclass(frozen=True)
class _Evidence:
    """What importance and statistics rest on; either part may be missing."""

    batches: UserBatches | None
    losses: Losses | None

    def first(self, images: int) -> _Evidence:
        """Only so many images, read once."""
        return replace(self, batches=None if self.batches is None else limited(self.batches, images))


def _evidence(
    tasks: dict[str, Task], data: Dataset | None, batches: UserBatches | None, losses: Losses | None
) -> _Evidence:
    if data is not None:
        batches = data.split("calibrate").batches(16) if batches is None else batches
        losses = task_losses(tasks) if losses is None else losses
    return _Evidence(batches, losses)


def _inputs(subject: _Subject, limits: Budget, config: PruneConfig) -> dict[str, Any]:
    """What the steps depend on."""
    return {
        "weights": weights_hash(subject.elastic.state()),
        "input": list(subject.elastic.example.shape[1:]),
        "limits": [str(limit) for limit in limits.limits],
        "floors": {name: asdict(floor) for name, floor in subject.scorer.floors.items()},
        "config": [asdict(config), asdict(subject.bench.config)],
    }


def _settings(
    config: PruneConfig | None, budget: Mapping[str, float | int | str] | None, evidence: _Evidence
) -> tuple[PruneConfig, Budget]:
    """The criterion that the given parts allow, and the limits."""
    able = evidence.losses is not None and evidence.batches is not None
    config = config or PruneConfig(criterion="taylor" if able else "l1")
    if config.criterion == "taylor" and not able:
        raise JobError(
            "losses= and batches= for Taylor importance",
            received="no losses" if evidence.losses is None else "no batches",
            where="prune.criterion",
            cure="give both, or tasks= and data=, or PruneConfig(criterion='l1')",
        )
    limits = Budget.parse(budget if budget is not None else {"latency_ms": config.target})
    timed = any(limit.name == "latency_ms" for limit in limits.limits)
    return (config if timed else replace(config, target="100%", accept="not_slower")), limits


def _no_losses(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {}


def _subject(
    elastic: ElasticModel, scorer: Scorer, evidence: _Evidence, config: MeasureConfig, progress: Progress | None
) -> _Subject:
    batches = list(evidence.batches or ())
    if batches:
        elastic.calibrate_with(lambda: (image_BCHW for image_BCHW, _ in batches))
    graph = graph_of(elastic)
    importance = ImportanceInput(elastic, FULL, evidence.losses or _no_losses, lambda: batches)
    return _Subject(elastic, Bench(graph, config, progress or Silent()), scorer, importance, bool(batches))


@dataclass(frozen=True)
class _Subject:
    """The network that is pruned: as modules, as costs, as scores."""

    elastic: ElasticModel
    bench: Bench
    scorer: Scorer
    importance: ImportanceInput
    calibrated: bool

    def module(self, selection: Selection) -> nn.Module:
        """The network of a selection; statistics are re-estimated where there are images, else sliced."""
        if selection == FULL:
            return self.elastic.extract(FULL)
        return self.elastic.extract(selection, statistics=None if self.calibrated else self._sliced(selection))

    def _sliced(self, selection: Selection) -> dict[str, Tensor]:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.elastic.model.state_dict().items()}
        slices = axis_slices(self.elastic.groups, selection, shapes)
        full = self.elastic.statistics(FULL)
        return {n: t[torch.from_numpy(slices[n][0])] if n in slices else t for n, t in full.items()}

    def scores(self, selection: Selection) -> dict[str, float]:
        return self.scorer(self.module(selection)) if self.scorer.function else {}


@dataclass(frozen=True)
class _Run:
    """One call of `prune`."""

    subject: _Subject
    budget: Budget
    config: PruneConfig
    profile: DeviceProfile | str

    def pruned(self, folder: Path, progress: Progress | None) -> Pruned:
        subject, bench = self.subject, self.subject.bench
        check_limits([limit.name for limit in self.budget.limits], read_device(bench.config.device))
        names = {limit.name for limit in self.budget.limits}
        start = self._start(folder / "start.json", names)
        limits = limit_constraints(self.budget, {name: cost.value for name, cost in start.items()})
        scores = subject.scores(FULL)
        scorer = subject.scorer.bounded(scores)
        tools = self._tools(scorer, limits)
        groups = subject.elastic.groups
        plan = plan_pruning(groups, FULL, tools, self._targeted(limits, start), folder / "steps.jsonl", progress)
        delivered, gate = self._gated(plan)
        costs = bench.costs({"before": FULL, "after": delivered}, names)
        widths = delivered.widths(groups)
        module = subject.module(delivered)
        tracked = any(getattr(layer, "track_running_stats", False) for layer in module.modules())
        result = PruneResult(
            kept="original" if delivered == FULL else "pruned",
            widths={group.name: (group.size, widths[group.name]) for group in groups},
            steps=plan.steps,
            stopped_because=plan.stopped_because,
            before=costs["before"],
            after=costs["after"],
            scores_before=scores,
            scores_after=subject.scores(delivered),
            limits=limits,
            gate=gate,
            notes=(SLICED,) if tracked and not subject.calibrated and delivered != FULL else (),
        )
        return Pruned(module, result)

    def _start(self, path: Path, names: set[str]) -> Mapping[str, Cost]:
        """The costs that percents refer to: measured once, so that an interrupted plan keeps its target."""
        if not path.exists():
            costs = self.subject.bench.costs({"before": FULL}, names)["before"]
            write_json(path, {"schema": "prune-start/1", **{name: cost.to_json() for name, cost in costs.items()}})
        stored = read_json(path, schema="prune-start/1")
        return {name: cost_from_json(cost) for name, cost in stored.items() if name != "schema"}

    def _tools(self, scorer: Scorer, limits: Sequence[Constraint]) -> PruneTools:
        bench, counted = self.subject.bench, [limit for limit in limits if limit.name != "latency_ms"]

        def judge(before: Selection, after: Selection) -> Judgement:
            verdict = bench.gate(before, after)
            return Judgement(verdict.after.value, verdict.ratio, verdict.low, verdict.high, verdict.resolution_percent)

        return PruneTools(
            importance=lambda selection: importance_of(
                self.config.criterion, replace(self.subject.importance, selection=selection)
            ),
            predict_ms=bench.predict(self.profile if isinstance(self.profile, DeviceProfile) else None),
            judge=judge,
            missed=(lambda selection: scorer.missed(self.subject.scores(selection))) if scorer.bounds else None,
            limits_kept=lambda selection: all(
                limit.violation(bench.value(limit.name, selection)) <= 0 for limit in counted
            ),
        )

    def _targeted(self, limits: Sequence[Constraint], start: Mapping[str, Cost]) -> PruneConfig:
        """The settings with the latency limit as a percent; a limit that is kept already asks for nothing."""
        for limit in limits:
            if limit.name == "latency_ms":
                percent = min(100.0, 100.0 * limit.bound / start["latency_ms"].value)
                return replace(self.config, target=f"{percent:.6g}%")
        return self.config

    def _gated(self, plan: PrunePlan) -> tuple[Selection, Verdict | None]:
        """The planned network, unless it is slower than the original after all."""
        if plan.selection == FULL:
            return FULL, None
        verdict = self.subject.bench.gate(FULL, plan.selection)
        return (plan.selection if verdict.passed else FULL), verdict
