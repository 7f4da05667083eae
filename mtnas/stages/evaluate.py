"""How the search sees a network: scores on the select split, counted costs, predicted or measured latency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from statistics import median

from mtnas.base.errors import FloorMissed
from mtnas.base.groups import Selection
from mtnas.base.quantity import Predicted
from mtnas.measure.profile_files import Profile, anchor_ms
from mtnas.search.objectives import Constraint, Objective, floor_constraints, limit_constraints
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome, Trial
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.costs import Cost, counted_costs, measured_costs
from mtnas.stages.scoring import score_selection
from mtnas.stages.some_tasks import open_space


def objectives_of(context: RunContext) -> tuple[Objective, ...]:
    """Each task's primary metric, in the job's order, then latency."""
    tasks = [Objective(name, task.primary.unit, task.primary.higher_is_better) for name, task in context.tasks.items()]
    return (*tasks, Objective("latency_ms", "ms", higher_is_better=False))


def predicted_latency(context: RunContext, selection: Selection, profile: Profile | None = None) -> Predicted:
    """The latency that a limit bounds, predicted; the predictor knows medians, p95 and p99 stand in the profile's
    ratio to them. Without another profile, by the run's."""
    profile = profile or context.profile
    predicted = profile.predict(context.graph.features(selection)[None, :])[0]
    statistic = context.job.device.statistic
    if statistic == "p50":
        return predicted
    records = [point.record for point in profile.points]
    ratio = median(record.statistic(statistic).value / record.p50.value for record in records)
    return replace(predicted, value=predicted.value * ratio, low=predicted.low * ratio, high=predicted.high * ratio)


class Evaluator:
    """Scores an arch of the trained supernet; the same arch always gives the same scores."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.elastic = context.trained

    def __call__(self, arch: Arch) -> Outcome:
        """The outcome of one arch. A prediction whose interval contains the limit is replaced by a measurement."""
        selection = self.elastic.selection(arch)
        scores = score_selection(self.context, selection, limit=self.context.job.score.select_images)
        return self.outcome(scores, self.costs(selection))

    def network_id(self, arch: Arch) -> str:
        """The same for archs that differ in widths of skipped blocks alone: they are one network."""
        return self.elastic.selection(arch).id

    def outcome(self, scores: Mapping[str, Mapping[str, float]], costs: dict[str, Cost]) -> Outcome:
        headline = {name: scores[name][task.primary.name] for name, task in self.context.tasks.items()}
        return Outcome({**headline, "latency_ms": costs["latency_ms"].value}, costs, scores)

    def with_costs(self, trial: Trial, costs: dict[str, Cost]) -> Trial:
        """A trial judged again with measured costs."""
        outcome = self.outcome(trial.outcome.scores, costs)
        judged = self.problem.trial(trial.number, trial.arch, outcome, trial.seconds)
        return replace(judged, strategy=trial.strategy, origin=trial.origin)

    def costs(self, selection: Selection) -> dict[str, Cost]:
        """Counted costs and latency; really measured when the prediction cannot tell whether the limit is kept."""
        predicted = self.predict(selection)
        limit_ms = self.limits.get("latency_ms")
        near = limit_ms is not None and predicted.low <= limit_ms <= predicted.high
        if near or {"memory_mb", "energy_mj"} & set(self.limits) or not self.context.profile.trustworthy:
            return self.measure({"candidate": selection})["candidate"]
        return {**counted_costs(self.context, selection), "latency_ms": predicted}

    def measure(self, selections: Mapping[str, Selection]) -> dict[str, dict[str, Cost]]:
        """Measured costs at the speed the machine had when the profile was made."""
        speed = anchor_ms(self.context.profile.points)
        return measured_costs(self.context, selections, anchor_ms=speed)

    def predict(self, selection: Selection) -> Predicted:
        return predicted_latency(self.context, selection)

    # --- the unpruned network ---------------------------------------------------------------------------------

    @cached_property
    def full(self) -> Outcome:
        """The largest network of the supernet, with the latency that the profile measured."""
        scores = score_selection(self.context, Selection.of({}), limit=self.context.job.score.select_images)
        return self.outcome(scores, self.full_costs)

    @cached_property
    def full_costs(self) -> dict[str, Cost]:
        from mtnas.stages.profile import full_costs

        return full_costs(self.context)

    @property
    def limits(self) -> dict[str, float]:
        """Absolute limits; percents are of the measured unpruned network."""
        return {limit.name: limit.bound for limit in self.limit_constraints}

    @cached_property
    def floors(self) -> tuple[Constraint, ...]:
        scores = {name: self.full.objectives[name] for name in self.context.tasks}
        floors = tuple(self.context.job.floors.values())
        return floor_constraints(floors, objectives_of(self.context), scores)

    @cached_property
    def limit_constraints(self) -> tuple[Constraint, ...]:
        return limit_constraints(self.context.job.budget, {n: cost.value for n, cost in self.full_costs.items()})

    @cached_property
    def problem(self) -> Problem:
        constraints = (*self.limit_constraints, *self.floors)
        space = open_space(self.elastic.space, self.context.graph.outputs)
        return Problem(space, objectives_of(self.context), constraints)

    def check_floors(self) -> None:
        """Raise `FloorMissed` when even the unpruned network is below a floor."""
        for floor in self.floors:
            value = self.full.objectives[floor.name]
            if floor.violation(value) > 0:
                raise FloorMissed(
                    f"a floor within reach of the unpruned network, {floor.name} = {value:.4g} {floor.unit}".rstrip(),
                    received=str(floor),
                    where=f"floors.{floor.name}",
                    cure="lower the floor, or train longer (train.epochs)",
                )
