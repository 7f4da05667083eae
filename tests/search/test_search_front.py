"""Non-dominated filter, hypervolume, picking: closed forms, ties, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_toys import TASKS, toy_evaluate, toy_problem, toy_space

from mtnas.base.errors import CheckpointError, Infeasible, JobError, ModelError
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.search.dominance import nondominated_N
from mtnas.search.front import Front, hypervolume_history
from mtnas.search.hypervolume import hypervolume, reference_losses, reference_point
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.preference import distances_N, preferred_scores, regrets_NT, weights
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome, Trial
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

GOOD, FAST = Objective("good", higher_is_better=True), Objective("latency_ms", "ms")
LINE = Space((Choice("width", tuple(range(1, 41))),))


def made(points: list[tuple[float, float]], limit: float | None = None) -> list[Trial]:
    """Trials with given (good, latency_ms), one arch each."""
    constraints = (Constraint("latency_ms", limit, unit="ms"),) if limit is not None else ()
    problem = Problem(LINE, (GOOD, FAST), constraints)
    return [
        problem.trial(
            n, Arch.of({"width": n + 1}), Outcome({"good": g, "latency_ms": t}, {"latency_ms": Counted(t, "ms")})
        )
        for n, (g, t) in enumerate(points)
    ]


def front(points: list[tuple[float, float]], limit: float | None = None) -> Front:
    trials = made(points, limit)
    return Front.of((GOOD, FAST), ("good",), trials, full=trials[0])


# --- non-dominated ---------------------------------------------------------------------------------------------


def brute(losses: np.ndarray) -> list[bool]:
    return [not any((b <= a).all() and (b < a).any() for b in losses) for a in losses]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=25))
def test_filter_equals_the_definition(points: list[tuple[int, int, int]]) -> None:
    losses = np.array(points, dtype=float).reshape(-1, 3)
    assert nondominated_N(losses).tolist() == brute(losses)


def test_equal_points_keep_each_other_and_weak_ones_fall() -> None:
    assert nondominated_N(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [2.0, 1.0]])).tolist() == [
        True,
        True,
        False,
        True,
    ]
    assert nondominated_N(np.empty((0, 2))).tolist() == []
    assert nondominated_N(np.array([[np.inf, 0.0], [0.0, np.inf]])).tolist() == [True, True]


def test_nan_is_refused() -> None:
    with pytest.raises(ModelError, match="NaN"):
        nondominated_N(np.array([[np.nan, 1.0]]))
    with pytest.raises(ModelError, match="NaN"):
        hypervolume(np.array([[np.nan, 1.0]]), np.ones(2))


def test_front_holds_feasible_trials_once_and_the_last_word_counts() -> None:
    trials = made([(1, 1), (2, 2), (1.5, 3), (3, 9)], limit=5)
    kept = Front.of((GOOD, FAST), ("good",), trials)
    assert [t.number for t in kept.trials] == [1, 0]  # best in the first objective first; 2 dominated, 3 over the limit
    problem = Problem(LINE, (GOOD, FAST), (Constraint("latency_ms", 5.0),))
    slower = problem.with_costs(trials[1], {"latency_ms": Measured(6.0, 5.9, 6.1, "ms", 20)})
    assert slower.outcome.objectives["latency_ms"] == 6.0 and not slower.feasible
    again = Front.of((GOOD, FAST), ("good",), [*trials, slower])
    assert [t.number for t in again.trials] == [2, 0]


# --- hypervolume -----------------------------------------------------------------------------------------------


def test_staircase_in_closed_form() -> None:
    steps = 10
    stairs = np.array([[i, steps - 1 - i] for i in range(steps)], dtype=float)
    assert hypervolume(stairs, np.full(2, float(steps))) == steps * (steps + 1) / 2


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_one_point_is_a_box(dimensions: int) -> None:
    point = np.linspace(0.1, 0.5, dimensions)[None]
    assert hypervolume(point, np.ones(dimensions)) == pytest.approx(float(np.prod(1 - point)))


def inclusion_exclusion(losses: np.ndarray, reference: np.ndarray) -> float:
    total = 0.0
    for mask in range(1, 2 ** len(losses)):
        members = losses[[bool(mask >> i & 1) for i in range(len(losses))]]
        total += (-1) ** (len(members) + 1) * float(np.prod(np.maximum(0, reference - members.max(axis=0))))
    return total


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_agrees_with_inclusion_and_exclusion(dimensions: int) -> None:
    losses = np.random.default_rng(dimensions).random((7, dimensions)) * 1.2
    reference = np.ones(dimensions)
    assert hypervolume(losses, reference) == pytest.approx(inclusion_exclusion(losses, reference))


def test_empty_duplicates_and_points_outside_add_nothing() -> None:
    reference = np.ones(2)
    assert hypervolume(np.empty((0, 2)), reference) == 0.0
    assert hypervolume(np.array([[1.0, 0.0], [2.0, -9.0]]), reference) == 0.0
    assert hypervolume(np.array([[0.5, 0.5], [0.5, 0.5], [0.6, 0.6]]), reference) == 0.25


def test_orientation_follows_the_objectives_and_the_reference_is_mandatory() -> None:
    assert front([(3, 2), (2, 1)]).hypervolume({"good": 0, "latency_ms": 4}) == 3 * 2 + 2 * 1
    with pytest.raises(JobError, match="latency_ms"):
        front([(3, 2)]).hypervolume({"good": 0})


def test_history_rises_and_ends_at_the_fronts_volume() -> None:
    problem = toy_problem(constraints=[Constraint("latency_ms", 4.0)])
    rng = np.random.default_rng(0)
    archs = [toy_space().sample(rng) for _ in range(40)]
    trials = [problem.trial(n, arch, toy_evaluate(arch)) for n, arch in enumerate(archs)]
    reference = {"segmentation": 0.0, "depth": 1.0, "latency_ms": 4.0}
    history = hypervolume_history(problem, trials, reference)
    assert len(history) == 40 and history == sorted(history)
    assert history[-1] == pytest.approx(Front.of(problem.objectives, TASKS, trials).hypervolume(reference))
    for upto in (1, 7, 23):
        part = [t for t in trials[:upto] if t.feasible]
        expected = hypervolume(problem.losses_NM(part), reference_losses(problem.objectives, reference))
        assert history[upto - 1] == pytest.approx(expected)


def test_infeasible_trials_add_no_volume() -> None:
    trials = made([(5, 9), (6, 9)], limit=1)
    problem = Problem(LINE, (GOOD, FAST), (Constraint("latency_ms", 1.0),))
    assert hypervolume_history(problem, trials, {"good": 0, "latency_ms": 99}) == [0.0, 0.0]


def test_reference_point_is_the_bound_or_the_worse_extreme_with_a_margin() -> None:
    extremes = [Outcome({"good": 10.0, "latency_ms": 20.0}), Outcome({"good": 5.0, "latency_ms": 4.0})]
    free = Problem(LINE, (GOOD, FAST))
    assert reference_point(free, extremes) == pytest.approx({"good": 4.5, "latency_ms": 21.6})
    limited = Problem(LINE, (GOOD, FAST), (Constraint("latency_ms", 10.0), Constraint("good", 6.0, True)))
    assert reference_point(limited, extremes) == {"good": 6.0, "latency_ms": 10.0}
    same = [Outcome({"good": 1.0, "latency_ms": 2.0})] * 2
    point = reference_point(free, same)
    assert point["good"] < 1.0 and point["latency_ms"] > 2.0


# --- pick ------------------------------------------------------------------------------------------------------

TWO = (Objective("seg", higher_is_better=True), Objective("depth", "m"), Objective("latency_ms", "ms"))


def two_task_front() -> Front:
    """Three networks: good at seg, balanced, good at depth; one larger and better in both, but slow."""
    rows = [(0.8, 0.2, 9.0), (0.7, 0.6, 5.0), (0.55, 0.45, 5.0), (0.3, 0.3, 5.0), (0.2, 0.7, 2.0)]
    problem = Problem(LINE, TWO)
    trials = []
    for n, (seg, depth, ms) in enumerate(rows):
        costs = {"latency_ms": Predicted(ms, ms, ms, "ms"), "params": Counted(ms * 100, "parameters")}
        outcome = Outcome({"seg": seg, "depth": depth, "latency_ms": ms}, costs, {"seg": {"miou": seg}})
        trials.append(problem.trial(n, Arch.of({"width": n + 1}), outcome))
    return Front.of(TWO, ("seg", "depth"), trials, full=trials[0])


def test_preference_decides_within_the_budget() -> None:
    kept = two_task_front()
    assert kept.pick().number == 0
    budget = {"latency_ms": 6.0}
    assert kept.pick(budget, {"seg": 5, "depth": 1}).number == 1
    assert kept.pick(budget, {"seg": 1, "depth": 5}).number == 3
    assert kept.pick(budget, {"seg": 5}).number == 1  # a silent task weighs 1
    assert kept.pick({"latency_ms": "50%"}, {"seg": 0, "depth": 1}).number == 4  # percent of the unpruned network
    assert kept.pick({"params": "60%"}, {"seg": 1, "depth": 5}).number == 3  # a cost that is no objective


def test_floors_rule_networks_out() -> None:
    kept = two_task_front()
    assert kept.pick({"latency_ms": 6.0}, {"seg": 5}, {"depth": 0.5}).number == 2
    assert kept.pick({"latency_ms": 6.0}, {"depth": 5}, {"seg": "-20%"}).number == 1
    assert kept.pick(None, None, {"depth": "-3%"}).number == 0


def test_scores_by_hand() -> None:
    kept = two_task_front()
    scores = preferred_scores(TWO, ("seg", "depth"), kept.trials, {"seg": 3, "depth": 1})
    by_number = dict(zip([t.number for t in kept.trials], scores, strict=True))
    assert by_number[0] == pytest.approx(1.0)
    alone = two_task_front().trials[1:4]
    assert [trial.number for trial in alone] == [1, 2, 3]
    found = preferred_scores(TWO, ("seg", "depth"), alone, {"seg": 3, "depth": 1})
    assert found[0] == pytest.approx(1 - 0.25)  # best in seg, worst in depth: both terms are that one regret
    seg, depth = 0.75 * (0.7 - 0.55) / 0.4, 0.25 * (0.45 - 0.3) / 0.3
    assert found[1] == pytest.approx(1 - 0.8 * max(seg, depth) - 0.2 * (seg + depth))
    assert found[2] == pytest.approx(1 - 0.75)
    assert weights(("seg", "depth"), {"seg": 3}) == {"seg": 0.75, "depth": 0.25}


def test_a_preference_reaches_networks_inside_a_hollow_front() -> None:
    """No weighted sum leads to the middle one, whose two regrets are 0.6 each."""
    losses = np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])
    for share in np.linspace(0, 1, 101):
        assert int(np.argmin(losses @ [share, 1 - share])) != 1
    assert int(np.argmin(distances_N(regrets_NT(losses), np.array([0.5, 0.5])))) == 1
    assert [int(np.argmin(distances_N(regrets_NT(losses), np.array([w, 1 - w])))) for w in (0.1, 0.9)] == [2, 0]


def test_a_dominated_network_neither_wins_nor_sets_the_scale() -> None:
    losses = np.array([[0.0, 1.0], [1.0, 0.0], [50.0, 1.0]])
    found = distances_N(regrets_NT(losses), np.array([0.5, 0.5]))
    assert found[0] == found[1] == pytest.approx(0.5) and found[2] > 1
    same = distances_N(regrets_NT(np.array([[1.0, 1.0], [1.0, 2.0]])), np.array([0.5, 0.5]))
    assert same[0] == 0 < same[1]
    assert distances_N(regrets_NT(np.full((2, 2), 3.0)), np.array([0.9, 0.1])).tolist() == [0, 0]


def test_ties_go_to_the_faster() -> None:
    kept = front([(1, 3), (1, 3), (1, 3)])
    assert len(kept.trials) == 3
    assert kept.pick().arch.id == min(t.arch.id for t in kept.trials)


def test_impossible_wishes_name_the_way_out() -> None:
    kept = two_task_front()
    with pytest.raises(Infeasible) as caught:
        kept.pick({"latency_ms": 1.0})
    assert caught.value.exit_code == 3
    assert "latency_ms <= 1 ms" in str(caught.value)
    assert "latency_ms: 1 -> 2 ms" in str(caught.value)
    with pytest.raises(Infeasible, match=r"depth: 0.2 -> 0.3 m") as caught:
        kept.pick({"latency_ms": 6.0}, None, {"depth": 0.2})
    assert "; or latency_ms: 6 -> 9 ms" in str(caught.value)
    with pytest.raises(Infeasible, match="search first"):
        Front(TWO, ("seg", "depth"), ()).pick()


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"budget": {"latency": 1}}, "did you mean 'latency_ms'"),
        ({"budget": {"energy_mj": 1}}, "energy_mj"),
        ({"budget": {"energy_mj": "50%"}}, "energy_mj"),
        ({"preference": {"dept": 1}}, "did you mean 'depth'"),
        ({"preference": {"depth": -1}}, "0 or more"),
        ({"preference": {"depth": float("nan")}}, "0 or more"),
        ({"preference": {"depth": 0, "seg": 0}}, "above 0"),
        ({"floors": {"segg": 0.5}}, "did you mean 'seg'"),
    ],
)
def test_wrong_wishes(wish: dict[str, dict[str, float]], text: str) -> None:
    with pytest.raises(JobError, match=text):
        two_task_front().pick(**wish)  # type: ignore[arg-type]


def test_json_round_trip(tmp_path: Path) -> None:
    kept = two_task_front()
    kept.save(tmp_path / "front.json")
    back = Front.load(tmp_path / "front.json")
    assert back == kept
    assert back.pick({"latency_ms": 6.0}, {"seg": 5}) == kept.pick({"latency_ms": 6.0}, {"seg": 5})
    data = json.loads((tmp_path / "front.json").read_text(encoding="utf-8"))
    assert data["schema"] == "front/1"
    (tmp_path / "front.json").write_text(json.dumps({**data, "schema": "front/9"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="front/9"):
        Front.load(tmp_path / "front.json")
