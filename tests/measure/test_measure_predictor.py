"""The predictor on costs whose law is known."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtnas.base.correlation import spearman
from mtnas.base.errors import CheckpointError, JobError
from mtnas.measure.fitting import boosted_trees, candidates, gaussian_bumps, non_negative
from mtnas.measure.predictor import HeldOut, LatencyPredictor, conformal, fit, held_out_errors

LAYERS = 10


def staircase(count: int, rng: np.random.Generator, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Networks of ten layers whose cost climbs in steps of 16 channels; the speed differs from layer to layer."""
    wide = rng.choice([8, 16, 24, 32, 40, 48, 56, 64], size=(count, LAYERS + 1)).astype(float)
    area = np.array([4096 / 4 ** (i // 3) for i in range(LAYERS)])
    whole = np.ceil(wide / 16) * 16
    kinds = [wide[:, :-1] * wide[:, 1:] * 9 * area, whole[:, :-1] * whole[:, 1:] * 9 * area, wide[:, 1:] * area]
    features = np.concatenate([*kinds, *(kind.sum(1, keepdims=True) for kind in kinds)], axis=1)
    ms = (kinds[1] / np.linspace(2e7, 6e7, LAYERS)).sum(1) + kinds[2].sum(1) / 5e6 + 0.05
    return features, ms * np.exp(noise * rng.standard_normal(count))


def test_recovers_a_staircase_that_multiply_adds_alone_do_not_show() -> None:
    rng = np.random.default_rng(0)
    features, ms = staircase(120, rng)
    fresh_features, fresh_ms = staircase(300, rng)
    errors = held_out_errors(fit(features, ms, 0).predict(fresh_features), fresh_ms)
    blind = np.concatenate([features[:, :LAYERS], features[:, -1:]], axis=1)
    blind_fresh = np.concatenate([fresh_features[:, :LAYERS], fresh_features[:, -1:]], axis=1)
    blind_errors = held_out_errors(fit(blind, ms, 0).predict(blind_fresh), fresh_ms)
    assert errors.mape_percent < 3.0 and errors.within_10_percent > 99.0 and errors.spearman > 0.99
    assert blind_errors.mape_percent > 1.5 * errors.mape_percent


def test_forty_networks_are_enough_to_rank() -> None:
    rng = np.random.default_rng(1)
    predictor = fit(*staircase(40, rng), 0)
    fresh_features, fresh_ms = staircase(300, rng)
    errors = held_out_errors(predictor.predict(fresh_features), fresh_ms)
    assert errors.spearman > 0.97 and errors.median_error_percent < 5.0
    assert predictor.held_out.count == 10 and predictor.trustworthy and predictor.doubt == ""


def test_intervals_hold_about_the_promised_share() -> None:
    covered = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        predictor = fit(*staircase(50, rng, noise=0.05), seed, coverage=0.8)
        fresh_features, fresh_ms = staircase(200, rng, noise=0.05)
        covered.append(held_out_errors(predictor.predict(fresh_features), fresh_ms).coverage_percent)
    assert 72.0 <= np.mean(covered) <= 95.0


def test_conformal_width_is_the_ranked_error() -> None:
    # ten errors of 1..10 %: at 80 % the ceil(11 * 0.8) = 9th counts, at 95 % there is none and the largest stands in
    ms = np.array([1 + k / 100 for k in range(1, 11)])
    assert conformal(np.ones(10), ms, 0.8) == pytest.approx(0.09)
    assert conformal(np.ones(10), ms, 0.95) == pytest.approx(0.10)
    assert conformal(ms, np.ones(10), 0.8) == pytest.approx(0.09)  # too high errs as much as too low


def test_json_keeps_every_prediction_of_every_shape() -> None:
    rng = np.random.default_rng(3)
    features, ms = staircase(40, rng)
    for kind, fitter in candidates().items():
        stack = fitter(features, ms, 0)
        nothing = HeldOut(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
        predictor = LatencyPredictor(kind, stack, 0.1, 0.9, 1.0, nothing)
        again = LatencyPredictor.from_json(json.loads(json.dumps(predictor.to_json(), allow_nan=False)))
        assert again.predict(features) == predictor.predict(features)


def test_exported_trees_and_bumps_compute_what_scikit_learn_computes() -> None:
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.kernel_ridge import KernelRidge

    rng = np.random.default_rng(4)
    features, residual = rng.random((60, 5)), rng.standard_normal(60)
    fresh = rng.random((200, 5))
    trees = boosted_trees(features, residual, 7)
    same = GradientBoostingRegressor(
        n_estimators=60, max_depth=2, learning_rate=0.1, min_samples_leaf=3, max_features=0.5, random_state=7
    ).fit(trees.standard(features).astype(np.float32), residual)
    np.testing.assert_allclose(trees.predict(fresh), same.predict(trees.standard(fresh).astype(np.float32)), atol=1e-9)
    bumps = gaussian_bumps(features, residual, 0.1)
    ridge = KernelRidge(alpha=0.1, kernel="rbf", gamma=bumps.gamma).fit(bumps.standard(features), residual)
    np.testing.assert_allclose(bumps.predict(fresh), ridge.predict(bumps.standard(fresh)), atol=1e-9)


def test_same_data_and_seed_give_the_same_file_in_another_process() -> None:
    features, ms = staircase(30, np.random.default_rng(5))
    mine = json.dumps(fit(features, ms, 3).to_json())
    code = (
        "import json, numpy as np; from test_measure_predictor import fit, staircase;"
        "print(json.dumps(fit(*staircase(30, np.random.default_rng(5)), 3).to_json()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert done.stdout.strip() == mine


def test_non_negative_weights_never_reward_work() -> None:
    rng = np.random.default_rng(6)
    features, ms = staircase(30, rng, noise=0.2)
    linear = non_negative(features, ms, 1e-6)
    assert (linear.weights_F >= 0).all() and linear.intercept >= 0


def test_constant_features_and_predictions_below_zero_do_no_harm() -> None:
    rng = np.random.default_rng(7)
    features, ms = staircase(40, rng)
    features = np.column_stack([features, np.full(40, 7.0), np.zeros(40)])
    predictor = fit(features, ms, 0)
    far = predictor.predict(np.vstack([np.zeros(features.shape[1]), 100 * features.max(0)]))
    assert all(p.value > 0 and math.isfinite(p.value) and p.low < p.value < p.high for p in far)
    assert far[1].value > ms.max()


def test_features_without_information_are_not_trusted() -> None:
    rng = np.random.default_rng(8)
    predictor = fit(rng.random((60, 6)), np.exp(rng.standard_normal(60)), 0)
    assert not predictor.trustworthy
    assert "held-out networks" in predictor.doubt


def test_too_few_held_out_networks_are_not_trusted() -> None:
    features, ms = staircase(16, np.random.default_rng(9))
    assert "only 4 held-out" in fit(features, ms, 0).doubt
    assert "only 0 held-out" in fit(features, ms, 0, held_out=[]).doubt


def test_held_out_rows_change_nothing_in_the_fit() -> None:
    features, ms = staircase(40, np.random.default_rng(10))
    spoiled = ms.copy()
    spoiled[:8] *= 50.0
    honest, other = (fit(features, y, 0, held_out=range(8)) for y in (ms, spoiled))
    assert honest.predict(features) == other.predict(features) and honest.interval == other.interval
    assert other.held_out.mape_percent > 10 * honest.held_out.mape_percent and not other.trustworthy


def test_spearman_on_known_orders() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 90])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1.0)
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(0.9486833)  # tie at rank 2.5
    assert math.isnan(spearman(np.ones(3), np.array([1.0, 2, 3])))


@pytest.mark.parametrize(
    ("features", "ms", "part"),
    [
        (np.ones((4, 2)), np.ones(4), "at least 5"),
        (np.ones((30, 2)), np.ones(29), "row of features"),
        (np.full((30, 2), np.nan), np.ones(30), "finite"),
        (np.ones((30, 2)), np.zeros(30), "above zero"),
    ],
)
def test_bad_data_is_refused(features: np.ndarray, ms: np.ndarray, part: str) -> None:
    with pytest.raises(JobError, match=part):
        fit(features, ms, 0)


def test_other_networks_features_and_other_schemas_are_refused() -> None:
    predictor = fit(*staircase(30, np.random.default_rng(11)), 0)
    with pytest.raises(JobError, match="33 features"):
        predictor.predict(np.ones((2, 5)))
    with pytest.raises(CheckpointError, match="latency-predictor"):
        LatencyPredictor.from_json({**predictor.to_json(), "schema": "latency-predictor/0"})
