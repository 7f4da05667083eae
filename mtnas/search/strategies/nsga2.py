"""NSGA-II (Deb et al., 2002) from pymoo, on option indices, with feasibility first.

pymoo gives the tournament, the ranking and the survival; sampling, crossover and mutation are ours because the
variables are ordered options, not reals. The algorithm object is never stored: replaying the trials rebuilds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtnas.base.optional import require
from mtnas.search.problem import Problem
from mtnas.search.strategies.base import StrategySettings
from mtnas.search.strategies.operators import blocks, crossover, mutate, option_counts, ordered_choices, spread_sample
from mtnas.search.trial import Trial
from mtnas.space.arch import Arch

CROSSOVER_SHARE = 0.9
TRIES = 30


class Nsga2:
    """`population` archs first, then generations of half as many.

    Trials that it did not ask for join the generation in which they arrive.
    """

    def __init__(self, settings: StrategySettings) -> None:
        self.settings = settings
        self.space = settings.problem.space
        self.queue: list[Arch] = []
        self.told: list[Trial] = []
        self.open = 0
        self.mating = IntegerMating(settings.problem)
        self.algorithm: Any = None

    def ask(self, count: int) -> list[Arch]:
        if not self.queue and not self.open:
            self.queue = self.space.decode(self._next_generation())
        asked, self.queue = self.queue[:count], self.queue[count:]
        self.open += len(asked)
        return asked

    def tell(self, trials: Sequence[Trial]) -> None:
        self.told.extend(trials)
        self.mating.known.update(trial.arch for trial in trials)
        self.open = max(0, self.open - len(trials))

    def _next_generation(self) -> np.ndarray:
        """(N, C) the archs to evaluate next."""
        if self.algorithm is None:
            self.algorithm = self._begin(guests=len(self.told))
        else:
            self.algorithm.tell(infills=_population(self.settings.problem, self.told))
            self.told = []
        return np.asarray(self.algorithm.ask().get("X"), dtype=np.int64).reshape(-1, len(self.space.choices))

    def _begin(self, guests: int) -> Any:
        """The algorithm before its first generation; `guests` were evaluated already and count as part of it."""
        nsga2 = require("pymoo.algorithms.moo.nsga2", why="the strategy nsga2")
        problems, terminations = require("pymoo.core.problem"), require("pymoo.core.termination")
        problem = self.settings.problem
        described = problems.Problem(
            n_var=len(self.space.choices),
            n_obj=len(problem.objectives),
            n_ieq_constr=len(problem.constraints),
            xl=0,
            xu=option_counts(self.space) - 1,
            vtype=int,
        )
        first = max(1, self.settings.population - guests)
        rng = np.random.default_rng(self.settings.seed)
        algorithm = nsga2.NSGA2(
            pop_size=self.settings.population,
            # Half a population at a time: with about a hundred evaluations, more generations are worth more.
            n_offsprings=max(2, self.settings.population // 2),
            sampling=spread_sample(self.space, first, rng),
            mating=self.mating,
            eliminate_duplicates=False,
        )
        algorithm.setup(described, seed=self.settings.seed, termination=terminations.NoTermination())
        return algorithm


def _population(problem: Problem, trials: Sequence[Trial]) -> Any:
    """Trials as pymoo individuals, each arch once."""
    distinct = list({trial.arch: trial for trial in trials}.values())
    population = require("pymoo.core.population").Population
    return population.new(
        X=problem.space.encode([trial.arch for trial in distinct]),
        F=problem.losses_NM(distinct),
        G=problem.violations_NK(distinct),
    )


class IntegerMating:
    """Makes a generation of children; pymoo calls `do`. Avoids archs that are already known, within `TRIES`."""

    def __init__(self, problem: Problem) -> None:
        self.space = problem.space
        self.counts_C = option_counts(problem.space)
        self.ordered_C = ordered_choices(problem.space)
        self.block_C = blocks(problem.space)
        self.known: set[Arch] = set()

    def do(self, problem: Any, pop: Any, n_offsprings: int, algorithm: Any, random_state: np.random.Generator) -> Any:
        """Called by pymoo, hence its names."""
        children: list[Arch] = []
        spare: list[Arch] = []
        for _ in range(TRIES):
            for child in self._children(problem, pop, n_offsprings, algorithm, random_state):
                (spare if child in self.known or child in children else children).append(child)
            if len(children) >= n_offsprings:
                break
        chosen = (children + spare)[:n_offsprings]
        return require("pymoo.core.population").Population.new(X=self.space.encode(chosen))

    def _children(
        self, problem: Any, pop: Any, count: int, algorithm: Any, random_state: np.random.Generator
    ) -> list[Arch]:
        nsga2 = require("pymoo.algorithms.moo.nsga2")
        tournament = require("pymoo.operators.selection.tournament").TournamentSelection(
            func_comp=nsga2.binary_tournament
        )
        parents = tournament.do(problem, pop, count, 2, to_pop=False, algorithm=algorithm, random_state=random_state)
        genes_NC = np.asarray(pop.get("X"), dtype=np.int64)
        first_NC, second_NC = genes_NC[parents[:, 0]], genes_NC[parents[:, 1]]
        mixed_NC = crossover(first_NC, second_NC, self.block_C, random_state)
        crossed = random_state.random((count, 1)) < CROSSOVER_SHARE
        child_NC = np.where(crossed, mixed_NC, first_NC)
        return self.space.decode(mutate(child_NC, self.counts_C, self.ordered_C, random_state))
