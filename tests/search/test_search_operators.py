"""Sampling, crossover, mutation, shortlist: what they promise."""

from __future__ import annotations

import numpy as np
from search_toys import TASKS, toy_evaluate, toy_problem, toy_space

from mtnas.base.quantity import Measured, Predicted
from mtnas.search.objectives import Constraint
from mtnas.search.shortlist import may_be_feasible, shortlist
from mtnas.search.strategies.operators import blocks, crossover, mutate, option_counts, spread_sample, uniform_sample
from mtnas.search.trial import Outcome, Trial
from mtnas.space.choice import Choice
from mtnas.space.space import Space


def test_samples_are_valid_and_spread_reaches_further_than_uniform() -> None:
    space = toy_space(8)
    rng = np.random.default_rng(0)
    spread_NC, uniform_NC = spread_sample(space, 64, rng), uniform_sample(space, 64, rng)
    for sample_NC in (spread_NC, uniform_NC):
        assert len(space.decode(sample_NC)) == 64
    shared = blocks(space) == 0
    assert np.ptp(spread_NC[:, shared].mean(axis=1)) > 1.5 * np.ptp(uniform_NC[:, shared].mean(axis=1))


def test_blocks_are_the_owners() -> None:
    assert blocks(toy_space(3)).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_children_take_every_choice_from_a_parent_and_often_whole_blocks() -> None:
    space = toy_space(4)
    counts, block_C = option_counts(space), blocks(space)
    first, second = np.zeros((400, len(counts)), dtype=int), np.ones((400, len(counts)), dtype=int)
    child_NC = crossover(first, second, block_C, np.random.default_rng(0))
    assert set(np.unique(child_NC)) == {0, 1}
    whole = [all(len(set(row[block_C == b])) == 1 for b in range(3)) for row in child_NC]
    assert 0.4 < np.mean(whole) < 0.65
    assert 0.4 < child_NC.mean() < 0.6


def test_mutants_differ_are_valid_and_mostly_step() -> None:
    space = Space((Choice("held", (8,)), Choice("a", (1, 2, 3, 4)), Choice("op", ("x", "y"), "operator")))
    counts = option_counts(space)
    parents = np.tile(np.array([0, 0, 1]), (500, 1))
    mutants = mutate(parents, counts, np.array([True, True, False]), np.random.default_rng(0))
    assert (mutants != parents).any(axis=1).all()
    assert (mutants[:, 0] == 0).all() and (mutants >= 0).all() and (mutants < counts).all()
    assert (parents == np.array([0, 0, 1])).all()
    moved = mutants[mutants[:, 1] != 0, 1]
    assert (moved == 1).mean() > 0.6 and set(moved) == {1, 2, 3}


def test_nothing_to_mutate() -> None:
    fixed = np.zeros((3, 2), dtype=int)
    assert (mutate(fixed, np.array([1, 1]), np.array([True, True]), np.random.default_rng(0)) == fixed).all()


def trials_with_limit(limit: float) -> tuple[list[Trial], list[Trial]]:
    problem = toy_problem(constraints=[Constraint("latency_ms", limit)])
    rng = np.random.default_rng(1)
    archs = list(dict.fromkeys(toy_space().sample(rng) for _ in range(60)))
    trials = [problem.trial(n, arch, toy_evaluate(arch)) for n, arch in enumerate(archs)]
    return trials, [t for t in trials if t.outcome.objectives["latency_ms"] * 0.95 <= limit]


def test_shortlist_holds_the_preferred_and_spreads_without_repeats() -> None:
    problem = toy_problem(constraints=[Constraint("latency_ms", 4.2)])
    trials, possible = trials_with_limit(4.2)
    chosen = shortlist(problem, TASKS, trials, 12)
    assert len(chosen) == len({t.arch for t in chosen}) == 12
    assert all(t in possible for t in chosen)
    wide = shortlist(problem, TASKS, trials, 12, {"segmentation": 1, "depth": 0})
    assert max(possible, key=lambda t: t.outcome.objectives["segmentation"]) in wide
    assert len(shortlist(problem, TASKS, trials, 1000)) == len(possible)
    assert shortlist(toy_problem(constraints=[Constraint("latency_ms", 0.1)]), TASKS, [], 5) == ()


def test_near_the_limit_only_a_prediction_has_the_benefit_of_the_doubt() -> None:
    problem = toy_problem(constraints=[Constraint("latency_ms", 2.0)])
    arch = toy_space().largest
    objectives = {**toy_evaluate(arch).objectives, "latency_ms": 2.1}
    near = problem.trial(0, arch, Outcome(objectives, {"latency_ms": Predicted(2.1, 1.9, 2.3, "ms")}))
    over = problem.trial(0, arch, Outcome(objectives, {"latency_ms": Predicted(2.1, 2.05, 2.3, "ms")}))
    real = problem.trial(0, arch, Outcome(objectives, {"latency_ms": Measured(2.1, 1.9, 2.3, "ms", 30)}))
    assert [may_be_feasible(problem, t) for t in (near, over, real)] == [True, False, False]
