"""Measures of control: closed forms, edges, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtnas.base.errors import JobError, ModelError
from mtnas.search.control import (
    budget_error,
    loss_ratios,
    rank_control,
    rank_correlation,
    ratio_hypervolume,
    score_ranges,
    simplex_preferences,
    sweep_preferences,
    uniformity,
    union_volume,
)
from mtnas.search.hypervolume import hypervolume

TASKS = ("segmentation", "depth", "normals")


# --- preferences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 20, 33])
def test_preferences_lie_on_the_simplex_and_come_back_the_same(count: int) -> None:
    found = simplex_preferences(TASKS, count)
    assert len(found) == count and all(tuple(row) == TASKS for row in found)
    assert all(math.isclose(sum(row.values()), 1.0) and min(row.values()) >= 0 for row in found)
    assert found == simplex_preferences(TASKS, count)
    assert found != simplex_preferences(TASKS, count, seed=1)
    assert len({tuple(row.values()) for row in found}) == count


def test_preferences_are_even_over_the_simplex() -> None:
    """Of points that are uniform on the triangle, the share with p_t > 1/2 is 1/4 for each task, its mean 1/3."""
    share_NT = np.array([list(row.values()) for row in simplex_preferences(TASKS, 256)])
    np.testing.assert_allclose(share_NT.mean(axis=0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((share_NT > 0.5).mean(axis=0), 1 / 4, atol=0.02)


def test_two_tasks_fill_the_line_evenly_and_one_task_has_one_preference() -> None:
    firsts = sorted(row["a"] for row in simplex_preferences(("a", "b"), 16))
    assert [int(x * 16) for x in firsts] == list(range(16))  # one in each sixteenth: low discrepancy
    assert simplex_preferences(("only",), 20) == [{"only": 1.0}]
    with pytest.raises(JobError, match="at least one task"):
        simplex_preferences((), 20)


def test_a_sweep_gives_one_task_none_to_all_and_the_others_equal_parts() -> None:
    found = sweep_preferences(TASKS, 3)
    assert found["depth"] == [
        {"segmentation": 0.5, "depth": 0.0, "normals": 0.5},
        {"segmentation": 0.25, "depth": 0.5, "normals": 0.25},
        {"segmentation": 0.0, "depth": 1.0, "normals": 0.0},
    ]
    with pytest.raises(JobError, match="two tasks"):
        sweep_preferences(("only",))


# --- hypervolume -----------------------------------------------------------------------------------------------


def test_loss_ratios_are_one_minus_the_relative_gain() -> None:
    higher = {"segmentation": True, "depth": False}
    found = loss_ratios({"depth": 0.6, "segmentation": 0.4}, {"segmentation": 0.5, "depth": 0.5}, higher)
    assert list(found) == ["segmentation", "depth"]
    assert found == pytest.approx({"segmentation": 1.2, "depth": 1.2})
    assert loss_ratios({"depth": 0.5}, {"depth": 0.5}, {"depth": False}) == {"depth": 1.0}
    assert loss_ratios({"segmentation": 0.0}, {"segmentation": 0.3}, {"segmentation": True}) == {"segmentation": 2.0}


def test_loss_ratios_refuse_what_they_cannot_compare() -> None:
    with pytest.raises(JobError, match="not zero"):
        loss_ratios({"a": 1.0}, {"a": 0.0}, {"a": True})
    with pytest.raises(JobError, match="loss ratio, reference"):
        loss_ratios({"a": 1.0}, {}, {"a": True})
    with pytest.raises(JobError, match="loss ratio, scores"):
        loss_ratios({"a": math.nan}, {"a": 1.0}, {"a": True})


def test_volume_of_the_reference_network_is_the_unit_box() -> None:
    found = ratio_hypervolume(np.ones((1, 3)))
    assert (found.value, found.low, found.high, found.points, found.samples) == (1.0, 1.0, 1.0, 1, 0)
    assert found.reference == (2.0, 2.0, 2.0)
    assert ratio_hypervolume(np.full((4, 3), 2.0)).value == 0.0
    # two boxes of 1 x 1/2 that share 1/2 x 1/2
    assert ratio_hypervolume(np.array([[1.0, 1.5], [1.5, 1.0]])).value == pytest.approx(0.75)
    assert ratio_hypervolume(np.array([[1.0, 1.0]]), (1.5, 3.0)).value == pytest.approx(1.0)


def test_monte_carlo_agrees_with_exact_where_both_can_be_had() -> None:
    points_NT = np.random.default_rng(3).uniform(0.7, 1.8, (20, 4))
    exact = hypervolume(points_NT, np.full(4, 2.0))
    value, error = union_volume(points_NT, np.full(4, 2.0), 40_000, np.random.default_rng(0))
    assert abs(value - exact) < 3 * error < 0.03 * exact


def test_many_tasks_in_closed_form_within_the_stated_interval() -> None:
    """Two points that each are better in half of 20 tasks: two boxes of (3/4)^10 that share (3/4)^20."""
    half = np.ones((2, 20))
    half[0, :10] = 1.25
    half[1, 10:] = 1.25
    found = ratio_hypervolume(half)
    closed = 2 * 0.75**10 - 0.75**20
    assert found.samples == 100_000 and found.low <= closed <= found.high
    assert (found.high - found.low) / closed < 0.02
    one = ratio_hypervolume(np.full((7, 20), 1.5))  # equal points are one box
    assert one.value == one.low == one.high == pytest.approx(0.5**20)
    assert ratio_hypervolume(np.full((2, 20), 2.5)).value == 0.0


def test_not_a_number_is_refused() -> None:
    for tasks in (2, 20):
        with pytest.raises(ModelError, match="NaN"):
            ratio_hypervolume(np.full((1, tasks), np.nan))


def test_uniformity_is_one_where_losses_oppose_preferences() -> None:
    preference_NT = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert uniformity(preference_NT, 1 / preference_NT) == pytest.approx(1.0)
    assert uniformity(np.array([[1.0, 0.0]]), np.ones((1, 2))) == pytest.approx(1 - math.log(2))
    with pytest.raises(ModelError, match="above zero"):
        uniformity(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))


# --- dials -----------------------------------------------------------------------------------------------------


def test_rank_correlation_in_closed_form() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 25, 1000]) == 1.0
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert rank_correlation([1, 2, 3], [1, 1, 2]) == pytest.approx(math.sqrt(3) / 2)  # a tie takes the mean rank
    assert rank_correlation([1, 2, 3], [5, 5, 5]) is None
    assert rank_correlation([1], [1]) is None


def test_rank_correlation_equals_another_implementation() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 15), rng.integers(0, 6, 15)
        assert rank_correlation(list(a), list(b)) == pytest.approx(spearmanr(a, b).statistic)


def test_rank_correlation_refuses_what_has_no_rank() -> None:
    with pytest.raises(ModelError, match="as many"):
        rank_correlation([1, 2], [1])
    with pytest.raises(ModelError, match="numbers"):
        rank_correlation([1, math.nan], [1, 2])


def test_rank_control_is_positive_where_a_higher_weight_means_a_lower_loss() -> None:
    preferences = [{"a": 0.1, "b": 0.9}, {"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.1}]
    ratios = [{"a": 1.3, "b": 1.0}, {"a": 1.2, "b": 1.0}, {"a": 1.1, "b": 1.0}]
    assert rank_control(preferences, ratios) == {"a": 1.0, "b": None}


def test_ranges_and_budget_errors() -> None:
    assert score_ranges([{"a": 0.5}, {"a": 0.2}]) == {"a": {"low": 0.2, "high": 0.5, "range": 0.3}}
    found = budget_error([9.0, 11.0, 10.0, 8.0], [10.0] * 4)
    assert found == pytest.approx({"mean": 0.1, "max": 0.2, "violation_rate": 0.25, "mean_room": 0.075})
    with pytest.raises(JobError, match="above zero"):
        budget_error([1.0], [0.0])
