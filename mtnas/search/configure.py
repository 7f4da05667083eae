"""From a budget and a preference straight to one network of a trained elastic model.

After Aich et al., Efficient Controllable Multi-Task Architectures (ICCV 2023): a preferred task gets a larger decoder
(`mtnas.search.decoders`), and the shared encoder is searched in what is left of the budget, for the best preferred
score. The paper has no public code and its abstract leaves the search open; ours is the greedy walk of
`mtnas.search.greedy`, or any row of the strategies table. Decoders that do not fit even with the smallest encoder
shrink, the least preferred task's first; a task below its floor gets a larger decoder, whatever its preference.
Nothing is trained: a request takes as many evaluations as the search makes, and scores that are known from earlier
requests cost nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtnas.base.errors import Infeasible
from mtnas.base.progress import Progress, Silent
from mtnas.search.config import GREEDY, ConfigureConfig, SearchConfig
from mtnas.search.decoders import DecoderPlan
from mtnas.search.feasible import check_feasible, no_network
from mtnas.search.greedy import Walked, walk
from mtnas.search.judge import Costs, Judge, Scores
from mtnas.search.loop import search
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.preference import weights, wishes
from mtnas.search.problem import Problem
from mtnas.search.trial import Cost, Outcome, cost_from_json
from mtnas.space.arch import Arch
from mtnas.space.space import Space

SCHEMA = "configured/1"
LOSS = "preferred_loss"
Bounds = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Subject:
    """What is configured.

    Args:
        space: all choices, with the tasks that own them.
        objectives: the tasks, with the directions of their scores.
        costs: of one arch, by limit name; asked thousands of times: predicted or counted.
        scores: of one arch, by task, batch-norm statistics its own; remembers (`mtnas.search.evaluations`).
    """

    space: Space
    objectives: tuple[Objective, ...]
    costs: Costs
    scores: Scores

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(objective.name for objective in self.objectives)


@dataclass(frozen=True)
class Wish:
    """One request.

    Args:
        budget: limits by name, absolute or a percent of the unpruned network.
        preference: task -> weight, 1 where silent.
        floors: task -> worst allowed score, absolute or relative to the unpruned network.
    """

    budget: Bounds = field(default_factory=dict)
    preference: Mapping[str, float] = field(default_factory=dict)
    floors: Bounds = field(default_factory=dict)


@dataclass(frozen=True)
class Configured:
    """The network for one request; `elastic.extract(configured)` takes it out.

    Args:
        arch: the network.
        preference: task -> share, summing to one.
        limits: cost -> absolute bound.
        floors: task -> absolute bound.
        costs: of the network, each saying whether it was predicted or counted.
        scores: of the network, on the data that it was chosen by.
        full_scores: of the unpruned network, on the same.
        loss: preference-weighted relative worsening against the unpruned network.
        evaluations: different networks whose scores the search asked for.
        tasks: it answers these alone, and costs are of such networks; empty = all tasks.
    """

    arch: Arch
    preference: Mapping[str, float]
    limits: Mapping[str, float]
    floors: Mapping[str, float]
    costs: Mapping[str, Cost]
    scores: Mapping[str, float]
    full_scores: Mapping[str, float]
    loss: float
    evaluations: int
    tasks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self.arch.id,
            "arch": self.arch.to_json(),
            "preference": dict(self.preference),
            "limits": dict(self.limits),
            "floors": dict(self.floors),
            "costs": {name: cost.to_json() for name, cost in self.costs.items()},
            "scores": dict(self.scores),
            "full_scores": dict(self.full_scores),
            "loss": self.loss,
            "evaluations": self.evaluations,
            **({"tasks": list(self.tasks)} if self.tasks else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Configured:
        costs = {name: cost_from_json(cost) for name, cost in data["costs"].items()}
        names = ("preference", "limits", "floors", "scores", "full_scores", "loss", "evaluations")
        rest = {**{name: data[name] for name in names}, "tasks": tuple(data.get("tasks", ()))}
        return Configured(arch=Arch.from_json(data["arch"]), costs=costs, **rest)


def configure(
    subject: Subject,
    wish: Wish,
    config: ConfigureConfig | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Configured:
    """The network for a budget and a preference.

    Args:
        subject: space, tasks, costs, scores.
        wish: what is asked for.
        config: how to search; greedy by default.
        seed: of a strategy.
        progress: shows a bar of a strategy's trials.

    Raises:
        Infeasible: no network that was found keeps the budget; names the limit and the cheapest way out.
        FloorMissed: even the unpruned network is below a floor.
        JobError: tasks or limits that are unknown.
    """
    config = config or ConfigureConfig()
    share = weights(subject.tasks, wish.preference)
    full = Outcome(dict(subject.scores(subject.space.largest)), dict(subject.costs(subject.space.largest)))
    constraints = wishes(subject.objectives, full, wish.budget, wish.floors)
    judge = Judge(subject.objectives, share, constraints, subject.costs, subject.scores, full.objectives)
    _check_extremes(subject, judge)
    explore = _explorer(judge, config, seed, progress or Silent())
    plans = [DecoderPlan.of(subject.space, share, level) for level in dict.fromkeys(config.decoder_levels)]
    found = [arch for arch in (_fit(subject.space, judge, plan, explore) for plan in plans) if arch is not None]
    if not found:
        raise _none(subject, judge, constraints)
    best = min(found, key=lambda arch: (judge.loss(arch), judge.use(arch), arch.id))
    return _configured(judge, best, full)


def _check_extremes(subject: Subject, judge: Judge) -> None:
    """Refuse at once what the smallest network cannot keep, and floors that the largest does not reach."""
    limits = {limit.name: limit.bound for limit in judge.limits}
    smallest, largest = (judge.costs(arch) for arch in (subject.space.smallest, subject.space.largest))
    check_feasible(limits, smallest, largest, floors=judge.floors, scores=judge.scores(subject.space.largest))


Explore = Callable[[Space], Walked]


def _fit(space: Space, judge: Judge, plan: DecoderPlan, explore: Explore) -> Arch | None:
    """Search the encoder beside decoders of a plan; where that fails, change the plan and search again.

    A floor in the way makes its task's decoder larger, and keeps it so; a limit in the way makes the least preferred
    decoder smaller. Both can be done a limited number of times.
    """
    seen: set[Space] = set()
    current: DecoderPlan | None = plan
    while current is not None:
        open_space = current.restrict(space)
        blocked: tuple[str, ...] = ()
        if open_space not in seen and not judge.excess(open_space.smallest):
            found = explore(open_space)
            if found.arch is not None:
                return found.arch
            blocked = found.blocked
        seen.add(open_space)
        current = current.larger(blocked) or current.smaller()
    return None


def _explorer(judge: Judge, config: ConfigureConfig, seed: int, progress: Progress) -> Explore:
    """How the open choices are searched."""
    if config.strategy == GREEDY:
        return lambda space: walk(space, judge, lazy=config.lazy, grow=config.grow)
    settings = SearchConfig(strategy=config.strategy, trials=config.trials, population=config.population)
    return lambda space: _searched(space, judge, settings, seed, progress)


def _searched(space: Space, judge: Judge, config: SearchConfig, seed: int, progress: Progress) -> Walked:
    """The best network that a strategy finds, with the preferred loss as its only objective.

    The loop's journal is thrown away: proposals come out the same again, and scores are remembered.
    """
    if space.largest == space.smallest:
        return walk(space, judge)
    problem = Problem(space, (Objective(LOSS),), (*judge.limits, *judge.floors))

    def evaluate(arch: Arch) -> Outcome:
        outcome = judge.outcome(arch)
        return Outcome({**outcome.objectives, LOSS: judge.loss(arch)}, outcome.costs)

    with tempfile.TemporaryDirectory(prefix="mtnas-") as scratch:
        trials = search(problem, evaluate, config, Path(scratch) / "trials.jsonl", seed=seed, progress=progress)
    feasible = [trial for trial in trials if trial.feasible]
    if feasible:
        best = min(feasible, key=lambda t: (t.outcome.objectives[LOSS], judge.use(t.arch), t.arch.id))
        return Walked(best.arch)
    nearest = min(trials, key=lambda trial: trial.total_violation)
    return Walked(None, judge.broken_floors(nearest.arch))


def _none(subject: Subject, judge: Judge, constraints: Sequence[Constraint]) -> Infeasible:
    """The error that names what is in the way: judged on every network that was scored, and the smallest."""
    problem = Problem(subject.space, subject.objectives, tuple(constraints))
    judge.scores(subject.space.smallest)
    trials = [problem.trial(n, arch, judge.outcome(arch)) for n, arch in enumerate(judge.scored.values())]
    return no_network(constraints, trials, "configure")


def _configured(judge: Judge, arch: Arch, full: Outcome) -> Configured:
    return Configured(
        arch=arch,
        preference=judge.share,
        limits={limit.name: limit.bound for limit in judge.limits},
        floors={floor.name: floor.bound for floor in judge.floors},
        costs=dict(judge.costs(arch)),
        scores=dict(judge.scores(arch)),
        full_scores=dict(full.objectives),
        loss=judge.loss(arch),
        evaluations=len(judge.scored),
    )
