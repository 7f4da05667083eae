"""Objectives, constraints, outcomes and trials as values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from search_toys import toy_evaluate, toy_problem, toy_space

from mtnas.base.budget import Budget, Floor
from mtnas.base.errors import CheckpointError, JobError, ModelError
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.search.objectives import Constraint, Objective, floor_constraints, limit_constraints
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome, Trial, cost_from_json

COSTS = [
    Measured(2.0, 1.9, 2.1, "ms", 30, "p95", "local-ort"),
    Predicted(2.0, 1.5, 2.5, "ms", 0.8),
    Counted(1234.0, "parameters"),
]


@pytest.mark.parametrize("cost", COSTS)
def test_costs_keep_their_kind_through_json(cost: Measured | Predicted | Counted) -> None:
    assert cost_from_json(json.loads(json.dumps(cost.to_json()))) == cost


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(CheckpointError, match="guessed"):
        cost_from_json({"kind": "guessed", "value": 1.0})


def test_trial_round_trip_is_exact() -> None:
    problem = toy_problem(constraints=[Constraint("latency_ms", 1 / 3), Constraint("params", 1e9)])
    for arch in (toy_space().largest, toy_space().smallest):
        trial = problem.trial(7, arch, toy_evaluate(arch), seconds=0.25)
        assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial


def test_undefined_metrics_become_null_and_nan_again() -> None:
    data = Outcome({"x": 1.0}, scores={"t": {"a": math.nan, "b": 2.0}}).to_json()
    assert json.loads(json.dumps(data, allow_nan=False))["scores"] == {"t": {"a": None, "b": 2.0}}
    assert math.isnan(Outcome.from_json(data).scores["t"]["a"])


def test_numpy_numbers_can_be_recorded() -> None:
    data = Outcome({"x": np.float32(0.5)}, scores={"t": {"a": np.float32(0.25)}}).to_json()
    assert json.loads(json.dumps(data))["objectives"] == {"x": 0.5}


@pytest.mark.parametrize(
    ("higher", "value", "expected"), [(False, 3.0, 0.5), (False, 2.0, 0.0), (False, 1.0, 0.0), (True, 1.0, 0.5)]
)
def test_violation_is_a_fraction_of_the_bound(higher: bool, value: float, expected: float) -> None:
    assert Constraint("x", 2.0, higher).violation(value) == expected


def test_a_bound_of_zero_does_not_divide_by_zero() -> None:
    assert Constraint("x", 0.0).violation(0.25) == 0.25


def test_violations_come_from_costs_metrics_or_objectives() -> None:
    outcome = Outcome({"depth": 0.5}, {"macs": Counted(30.0, "MACs")}, {"depth": {"rmse": 0.9}})
    problem = Problem(
        toy_space(),
        (Objective("depth"),),
        (Constraint("macs", 20.0), Constraint("depth", 0.5), Constraint("depth", 0.6, metric="rmse")),
    )
    assert problem.violations(outcome) == pytest.approx({"macs": 0.5, "depth": 0.0, "depth.rmse": 0.5})
    trial = problem.trial(0, toy_space().largest, outcome)
    assert not trial.feasible and trial.total_violation == pytest.approx(1.0)
    assert problem.violations_NK([trial]) == pytest.approx(np.array([[0.5, 0.0, 0.5]]))


def test_limits_of_a_budget_are_absolute() -> None:
    limits = limit_constraints(Budget.parse({"latency_ms": "50%", "params": 1000}), {"latency_ms": 9.0})
    assert [(c.name, c.bound, c.text, c.unit) for c in limits] == [
        ("latency_ms", 4.5, "50%", "ms"),
        ("params", 1000.0, "1000", "parameters"),
    ]


def test_floors_follow_the_direction_of_the_metric() -> None:
    objectives = (Objective("seg", higher_is_better=True), Objective("depth", "m"))
    floors = [Floor.parse("seg", "-10%"), Floor.parse("depth", "-10%"), Floor.parse("depth", 0.7)]
    bounds = [(c.bound, c.higher_is_better) for c in floor_constraints(floors, objectives, {"seg": 0.5, "depth": 0.4})]
    assert bounds == [(pytest.approx(0.45), True), (pytest.approx(0.44), False), (0.7, False)]
    with pytest.raises(JobError, match="did you mean 'depth'"):
        floor_constraints([Floor.parse("dept", "-3%")], objectives, {})
    with pytest.raises(JobError, match=r"floors\.seg"):
        floor_constraints([Floor.parse("seg", "-3%")], objectives, {})


def test_problems_that_make_no_sense() -> None:
    with pytest.raises(JobError, match="at least one objective"):
        Problem(toy_space(), ())
    with pytest.raises(JobError, match="different names"):
        Problem(toy_space(), (Objective("x"), Objective("x")))
    with pytest.raises(JobError, match="constraints with different"):
        Problem(toy_space(), (Objective("x"),), (Constraint("y", 1.0), Constraint("y", 2.0)))


def test_losses_turn_the_direction_and_keep_the_order() -> None:
    problem = toy_problem()
    arch = toy_space().largest
    outcome = toy_evaluate(arch)
    row = problem.losses_NM([problem.trial(0, arch, outcome)])[0]
    values = outcome.objectives
    assert row.tolist() == [-values["segmentation"], values["depth"], values["latency_ms"]]
    with pytest.raises(ModelError, match="depth"):
        problem.trial(0, arch, Outcome({"segmentation": 1.0, "latency_ms": 1.0}))


def test_problem_id_changes_with_anything_searched() -> None:
    ids = {
        toy_problem().id,
        toy_problem(toy_space(5)).id,
        toy_problem(constraints=[Constraint("params", 1.0)]).id,
        toy_problem(constraints=[Constraint("params", 2.0)]).id,
    }
    assert len(ids) == 4
