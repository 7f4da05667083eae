"""Budgets and floors: what may be written, and what it means."""

from __future__ import annotations

import pytest

from mtnas.base.budget import Budget, Floor, Limit
from mtnas.base.errors import JobError


def test_percent_is_of_the_unpruned_network() -> None:
    assert Limit.parse("latency_ms", "50%").resolve(8.0) == 4.0
    assert Limit.parse("latency_ms", 3).resolve(8.0) == 3.0


@pytest.mark.parametrize("text", ["", "fast", "-1", 0, "0%", True, "nan", "inf"])
def test_wrong_amounts_name_the_cure(text: object) -> None:
    with pytest.raises(JobError, match="budget.latency_ms"):
        Limit.parse("latency_ms", text)  # type: ignore[arg-type]


def test_unknown_limit_offers_the_nearest_name() -> None:
    with pytest.raises(JobError, match="did you mean 'latency_ms'"):
        Limit.parse("latency", 3)


def test_percent_needs_the_unpruned_cost() -> None:
    budget = Budget.parse({"energy_mj": "50%", "params": 1000})
    with pytest.raises(JobError, match="energy_mj"):
        budget.resolve({"params": 5.0})
    assert Budget.parse({"params": 1000}).resolve({}) == {"params": 1000.0}


def test_percent_floor_follows_the_direction() -> None:
    floor = Floor.parse("depth", "-10%")
    assert floor.bound(0.5, higher_is_better=False) == pytest.approx(0.55)
    assert floor.bound(0.5, higher_is_better=True) == pytest.approx(0.45)
    assert floor.slack(0.56, 0.5, higher_is_better=False) < 0 < floor.slack(0.54, 0.5, higher_is_better=False)


def test_absolute_floor_is_the_metric_itself() -> None:
    assert Floor.parse("segmentation", 0.4).bound(0.9, higher_is_better=True) == 0.4
