"""Closed forms and coverage of the intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtnas.measure.statistics import (
    binomial_cdf,
    nested_quantile_interval,
    quantile_interval,
    ratio_of_medians,
    rounds_quantile_interval,
)


def test_binomial_cdf_is_the_sum_of_its_terms() -> None:
    for count, p in ((1, 0.5), (12, 0.5), (30, 0.95)):
        terms = [math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(count + 1)]
        np.testing.assert_allclose(binomial_cdf(count, p), np.cumsum(terms), rtol=1e-9)


def test_median_interval_of_ten_is_the_second_and_ninth_value() -> None:
    # Textbook: for n = 10 the interval (x_2, x_9) covers the median with probability 97.9 %, (x_3, x_8) with 89.1 %.
    values = [7.0, 1, 10, 4, 3, 9, 2, 8, 5, 6]
    assert quantile_interval(values, 0.5, 0.95) == (2.0, 9.0)
    assert quantile_interval(values, 0.5, 0.89) == (3.0, 8.0)


def test_percentile_interval_without_enough_samples_is_the_extreme() -> None:
    assert quantile_interval([1.0, 2.0, 3.0], 0.95, 0.95)[1] == 3.0
    assert quantile_interval([5.0], 0.5, 0.95) == (5.0, 5.0)


def test_largest_sample_bounds_the_95th_percentile_from_72_samples_on() -> None:
    # 1 - 0.95^n >= 0.975 first holds at n = 72: from there on the largest sample is a bound and not a stand-in.
    assert binomial_cdf(72, 0.95)[71] >= 0.975 > binomial_cdf(71, 0.95)[70]
    low, high = quantile_interval(np.arange(1000.0), 0.95, 0.95)
    assert low < 949.5 < high < 999


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_order_statistics_cover_as_promised_for_a_skewed_law(q: float) -> None:
    rng, truth = np.random.default_rng(1), -math.log(1 - q)
    intervals = [quantile_interval(rng.exponential(size=60), q, 0.9) for _ in range(600)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.87 <= covered <= 0.97


def test_ratio_interval_covers_the_true_ratio_under_shared_weather() -> None:
    rng, covered, widths = np.random.default_rng(2), [], []
    for _ in range(300):
        weather = 1.0 + 0.2 * rng.random(30)
        before = weather * (1.0 + 0.01 * rng.standard_normal(30))
        after = 0.8 * weather * (1.0 + 0.01 * rng.standard_normal(30))
        value, low, high = ratio_of_medians(before, after, 0.95, rng)
        assert low <= value <= high
        covered.append(low <= 0.8 <= high)
        widths.append(high - low)
    assert np.mean(covered) >= 0.9
    assert np.median(widths) < 0.06  # the weather alone spreads by 20 %


def test_identical_rounds_give_a_point() -> None:
    value, low, high = ratio_of_medians(np.full(9, 2.0), np.full(9, 3.0), 0.95, np.random.default_rng(0))
    assert (value, low, high) == (1.5, 1.5, 1.5)


def test_rounds_interval_is_wider_than_that_of_independent_runs_when_rounds_differ() -> None:
    rng = np.random.default_rng(3)
    runs = rng.normal(1.0, 0.2, size=(20, 1)) + rng.normal(0, 0.01, size=(20, 50))
    low, high = rounds_quantile_interval(runs, 0.95, 0.95, rng)
    naive_low, naive_high = quantile_interval(runs.ravel(), 0.95, 0.95)
    assert high - low > 1.5 * (naive_high - naive_low)


def test_nested_interval_sees_the_spread_between_processes() -> None:
    rng = np.random.default_rng(4)
    processes = [np.full((10, 5), 1.0 + 0.1 * k) + rng.normal(0, 1e-3, (10, 5)) for k in range(3)]
    low, high = nested_quantile_interval(processes, 0.5, 0.95, rng)
    assert low < 1.05 and high > 1.15
