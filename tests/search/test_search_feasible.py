"""Feasibility told before the search and after it: which limit binds, what exists, the cheapest way out."""

from __future__ import annotations

import json

import pytest

from mtnas.base.errors import FloorMissed, Infeasible, JobError
from mtnas.base.quantity import Counted, Measured
from mtnas.search.feasible import check_feasible, feasibility, no_network, relaxations
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.problem import Problem
from mtnas.search.trial import Cost, Outcome
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space


def costs(ms: float, params: float) -> dict[str, Cost]:
    return {
        "latency_ms": Measured(ms, ms * 0.95, ms * 1.05, "ms", 30, device="local-ort"),
        "params": Counted(params, "parameters"),
    }


SMALLEST, TYPICAL, LARGEST = costs(2.8, 1e5), costs(5.0, 5e5), costs(8.0, 1e6)


@pytest.mark.parametrize(
    ("bound", "verdict"), [(2.1, "impossible"), (2.7, "tight"), (2.8, "binds"), (4.0, "binds"), (8.4, "free")]
)
def test_verdicts(bound: float, verdict: str) -> None:
    report = feasibility({"latency_ms": bound}, SMALLEST, LARGEST)
    assert report.limits[0].verdict == verdict
    assert report.feasible == (verdict != "impossible")


def test_an_impossible_limit_is_explained() -> None:
    with pytest.raises(Infeasible) as caught:
        check_feasible({"latency_ms": 2.1, "params": 2e5}, SMALLEST, LARGEST, typical=TYPICAL)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert "latency_ms <= 2.1 ms" in text
    assert "smallest 2.8 (measured), typical 5 (measured), largest 8 (measured)" in text
    assert "latency_ms: 2.1 -> 2.94 ms" in text  # the upper end of the smallest network's interval
    assert "params" not in text


def test_the_binding_limit_is_the_one_with_the_least_room() -> None:
    report = check_feasible({"latency_ms": 4.0, "params": 1.1e5}, SMALLEST, LARGEST)
    assert report.binding is not None and report.binding.name == "params"
    assert check_feasible({}, SMALLEST, LARGEST).binding is None
    assert check_feasible({}, SMALLEST, LARGEST).feasible


def test_a_cost_the_device_cannot_give() -> None:
    with pytest.raises(JobError, match=r"budget\.energy_mj"):
        check_feasible({"energy_mj": 1.0}, SMALLEST, LARGEST)


def test_a_floor_above_reach() -> None:
    floors = [Constraint("segmentation", 0.9, True), Constraint("depth", 0.5), Constraint("normals", 20.0)]
    report = feasibility({}, SMALLEST, LARGEST, floors=floors, scores={"segmentation": 0.62, "depth": 0.4})
    assert [row.verdict for row in report.floors] == ["impossible", "ok"]
    with pytest.raises(FloorMissed, match=r"segmentation: 0.9 -> 0.62") as caught:
        report.require()
    assert caught.value.exit_code == 3
    check_feasible({}, SMALLEST, LARGEST, floors=floors)  # nothing is known before training


def test_report_is_json() -> None:
    report = feasibility({"latency_ms": 2.1}, SMALLEST, LARGEST)
    row = json.loads(json.dumps(report.to_json()))["limits"][0]
    assert row["smallest"]["kind"] == "measured" and row["relaxed"] == 2.94
    assert "impossible" in str(report)


SPACE = Space((Choice("w", tuple(range(1, 11))),))
LIMITS = (Constraint("latency_ms", 2.0, unit="ms"), Constraint("seg", 0.6, True, unit="mIoU"))


def test_relaxations_after_a_search_are_sorted_and_sufficient() -> None:
    problem = Problem(SPACE, (Objective("seg", higher_is_better=True), Objective("latency_ms")), LIMITS)
    rows = [(0.7, 3.01), (0.65, 2.4512), (0.5, 1.9), (0.59, 1.8), (0.55, 2.1)]
    trials = [
        problem.trial(n, Arch.of({"w": n + 1}), Outcome({"seg": seg, "latency_ms": ms}))
        for n, (seg, ms) in enumerate(rows)
    ]
    ways = relaxations(LIMITS, trials)
    assert [way.trial.number for way in ways] == [3, 4, 1]
    assert str(ways[0]) == "seg: 0.6 -> 0.59 mIoU"
    assert str(ways[1]) == "latency_ms: 2 -> 2.1 ms and seg: 0.6 -> 0.55 mIoU"
    assert str(ways[2]) == "latency_ms: 2 -> 2.46 ms"  # rounded outwards: 2.45 would still fail
    error = no_network(LIMITS, trials, "search")
    assert "none of 5" in str(error) and "seg: 0.6 -> 0.59 mIoU; or latency_ms" in str(error)
    feasible = problem.trial(9, Arch.of({"w": 10}), Outcome({"seg": 0.61, "latency_ms": 1.0}))
    assert feasible.arch not in {way.trial.arch for way in relaxations(LIMITS, [*trials, feasible])}
