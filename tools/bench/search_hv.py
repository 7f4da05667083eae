"""NSGA-II's hypervolume against random search at equal evaluations, on a trained supernet; TPE beside them.

Every line of every seed searches the same problem: the run's space, its tasks' primary metrics and latency as
objectives, its budget and floors as constraints. Latency is predicted, never measured here, so that an arch has one
outcome whoever proposes it. Gains are paired by seed.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtnas.base.errors import JobError
from mtnas.base.progress import Progress, Silent
from mtnas.base.seeds import derive_seed
from mtnas.job.schema import Job
from mtnas.search.compare import compare
from mtnas.search.config import SearchConfig
from mtnas.search.front import hypervolume_history
from mtnas.search.hypervolume import reference_point
from mtnas.search.loop import search
from mtnas.search.problem import Evaluate, Problem
from mtnas.stages.evaluate import Evaluator
from tools.bench.evaluations import SharedEvaluations, evaluations_id, predicted_only
from tools.bench.record import Claim, Column, Options, Result
from tools.bench.runs import CACHE, trained_run

OURS, RIVAL = "nsga2", "random"
STRATEGIES = (OURS, RIVAL, "optuna_tpe")
SEEDS, QUICK_SEEDS, QUICK_TRIALS = 5, 3, 24
COLUMNS = (
    Column("strategy", "strategy"),
    Column("seed", "seed"),
    Column("hypervolume", "hypervolume, % of the box", 3),
    Column("gain_percent", "gain over random, % of its mean", 1),
    Column("feasible", "feasible networks", 0),
    Column("evaluations", "evaluations", 0),
)

Lines = dict[str, dict[int, list[float]]]
"""Strategy -> seed -> hypervolume after each evaluation."""


def run(options: Options) -> Result:
    """Search with every strategy and seed; evaluations are shared and kept under `runs/bench/`."""
    context = trained_run(options.run)
    torch.set_num_threads(1)  # two threads were ten times slower than one while other work ran
    evaluator = Evaluator(context)
    folder = CACHE / f"search_hv-{evaluations_id(context)}"
    evaluate = SharedEvaluations(predicted_only(evaluator), folder / "evaluations.jsonl")
    config = context.job.search
    trials = min(QUICK_TRIALS, config.trials) if options.quick else config.trials
    seeds = tuple(range(options.seeds or (QUICK_SEEDS if options.quick else SEEDS)))
    race = Race(evaluator.problem, evaluate, trials, config.population)
    rows = race.run(seeds, context.progress)
    return Result(seeds, rows, COLUMNS, claims(race.lines), note(race, context.job), details(race))


class Race:
    """Several strategies on one problem, from the same seeds and with the same number of evaluations."""

    def __init__(self, problem: Problem, evaluate: Evaluate, trials: int, population: int) -> None:
        self.problem = problem
        self.evaluate = evaluate
        self.trials = trials
        self.population = population
        space = problem.space
        self.reference = reference_point(problem, [evaluate(space.largest), evaluate(space.smallest)])
        self.box = self._box()
        self.lines: Lines = {}

    def run(self, seeds: Sequence[int], progress: Progress | None = None) -> tuple[dict[str, Any], ...]:
        """All strategies and seeds; returns one row for each."""
        progress = progress or Silent()
        found: list[dict[str, Any]] = []
        for strategy in STRATEGIES:
            for seed in seeds:
                progress.note(f"{strategy}, seed {seed}")
                found.append(self.line(strategy, seed))
        for row in found:
            gains = gains_percent(self.lines, row["strategy"]) if row["strategy"] != RIVAL else {}
            row["gain_percent"] = gains.get(row["seed"])
        return tuple(found)

    def line(self, strategy: str, seed: int) -> dict[str, Any]:
        """One search. Its own journal is temporary: what is worth keeping, the evaluations, is kept already."""
        config = SearchConfig(strategy=strategy, trials=self.trials, population=self.population)
        with tempfile.TemporaryDirectory(prefix="mtnas-bench-") as scratch:
            journal = Path(scratch) / "trials.jsonl"
            trials = search(self.problem, self.evaluate, config, journal, seed=derive_seed(seed, "search_hv"))
        history = hypervolume_history(self.problem, trials, self.reference)
        self.lines.setdefault(strategy, {})[seed] = history
        return {
            "strategy": strategy,
            "seed": seed,
            "hypervolume": 100.0 * history[-1] / self.box,
            "feasible": sum(trial.feasible for trial in trials),
            "evaluations": len(trials),
        }

    def _box(self) -> float:
        """Volume between the reference and the best of the extremes, or zero for latency: a scale, nothing else."""
        space = self.problem.space
        ends = [self.evaluate(arch).objectives for arch in (space.largest, space.smallest)]
        sides = []
        for objective in self.problem.objectives:
            best = min(objective.loss(end[objective.name]) for end in ends)
            side = objective.loss(self.reference[objective.name]) - (0.0 if objective.name == "latency_ms" else best)
            sides.append(side)
        if min(sides) <= 0:
            raise JobError(
                "a budget and floors that the extremes do not all break",
                received=f"a reference point of {self.reference}",
                where="search_hv",
                cure="use a run with looser floors, or trained longer",
            )
        return math.prod(sides)


def gains_percent(lines: Lines, strategy: str) -> dict[int, float]:
    """Seed -> difference to the random line of that seed, in percent of the random lines' mean.

    One denominator for all seeds: a random line that found next to nothing would make its own seed's ratio huge.
    Empty when no random line found anything.
    """
    mean = statistics.fmean(history[-1] for history in lines[RIVAL].values())
    if mean <= 0:
        return {}
    return {seed: 100.0 * (lines[strategy][seed][-1] - lines[RIVAL][seed][-1]) / mean for seed in lines[RIVAL]}


def claims(lines: Lines) -> tuple[Claim, ...]:
    """Paired by seed."""
    text = "hypervolume gained by {} over random search, % of random search's mean"
    return tuple(
        Claim.of(text.format(name), list(gains_percent(lines, name).values()), "more than", 0)
        for name in lines
        if name != RIVAL
    )


def note(race: Race, job: Job) -> str:
    """What the numbers mean."""
    units = {objective.name: objective.unit for objective in race.problem.objectives}
    point = ", ".join(f"{name} {value:.4g} {units[name]}".rstrip() for name, value in race.reference.items())
    limits = "; ".join(str(constraint) for constraint in race.problem.constraints) or "none"
    return (
        f"Job {job.name}: {job.data.name}, {job.data.width}x{job.data.height}, trained {job.train.epochs} epochs, "
        f"10^{race.problem.space.log10_size:.1f} networks. Latency is predicted, nothing is measured: equal networks "
        f"get equal outcomes. Constraints: {limits}. Reference point: {point}. The box lies between it and the better "
        f"of the largest and the smallest network, latency 0; points beyond the box may make more than 100 %."
    )


def details(race: Race) -> Mapping[str, Any]:
    """Reference point, mean histories and paired gains with t intervals."""
    return {"reference_point": race.reference, "population": race.population, "compare": compare(race.lines, RIVAL)}
