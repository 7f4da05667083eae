"""Interrupted runs: kept, counted, and out of the typical time."""

from __future__ import annotations

import numpy as np

from mtnas.measure.runs import Runs


def test_typical_time_is_that_of_runs_nothing_interrupted() -> None:
    runs = Runs.of([[1.0, 9.0, 1.2, 8.0, 1.1], [1.0, 1.0, 1.0, 1.0, 7.0]], [[1, 3], [4]])
    np.testing.assert_allclose(runs.medians_R, [1.1, 1.0])
    assert runs.interrupted_percent == 30.0 and runs.places() == ((1, 3), (4,))
    assert np.isnan(runs.clean_RN).sum() == 3 and not np.isnan(runs.ms_RN).any()


def test_a_round_with_hardly_a_clean_run_counts_as_it_is() -> None:
    runs = Runs.of([[1.0, 5.0, 6.0, 7.0]], [[1, 2, 3]])
    np.testing.assert_allclose(runs.medians_R, [5.5])


def test_without_interruptions_it_is_the_plain_median() -> None:
    ms = np.random.default_rng(0).random((6, 9))
    np.testing.assert_array_equal(Runs.of(ms).medians_R, np.median(ms, axis=1))


def test_two_copies_join_round_by_round() -> None:
    both = Runs.of([[1.0, 2.0]], [[0]]).beside(Runs.of([[3.0, 4.0]], [[1]]))
    assert both.places() == ((0, 3),) and both.ms_RN.tolist() == [[1.0, 2.0, 3.0, 4.0]]
