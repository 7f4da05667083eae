"""Fits the shapes of `models.py` with scikit-learn; every error is relative, as a user feels it.

Shape letters: N = networks, F = features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from mtnas.base.optional import require
from mtnas.measure.models import Kernel, Linear, Stack, Standard, Tree, Trees

Fitter = Callable[[np.ndarray, np.ndarray, int], Stack]
SIMPLEST = "non-negative 1e-06"
RESIDUALS = ("", "kernel", "gaussian process", "trees")


def non_negative(features_NF: np.ndarray, ms_N: np.ndarray, strength: float) -> Linear:
    """Non-negative weights: more work never costs less. `strength` shrinks weights that the data leave open."""
    linear_model = require("sklearn.linear_model")
    scale_F = np.maximum(features_NF.mean(axis=0), 1e-12)
    design = np.column_stack([features_NF / scale_F, np.ones(len(ms_N))]) / ms_N[:, None] * ms_N.mean()
    shrink = np.sqrt(strength * len(ms_N)) * np.eye(design.shape[1])
    shrink[-1, -1] = 0.0
    rows, wanted = np.vstack([design, shrink]), np.concatenate([np.ones(len(ms_N)), np.zeros(design.shape[1])])
    weights = linear_model.LinearRegression(positive=True, fit_intercept=False).fit(rows, wanted).coef_ * ms_N.mean()
    return Linear(weights[:-1] / scale_F, float(weights[-1]))


def ridge(features_NF: np.ndarray, ms_N: np.ndarray, strength: float) -> Linear:
    """Ridge regression on standardised features, rows weighted so that relative errors count."""
    linear_model = require("sklearn.linear_model")
    standard, weight_N = Standard.of(features_NF), (ms_N.mean() / ms_N) ** 2
    model = linear_model.Ridge(alpha=strength * float(weight_N.sum()))
    model.fit(standard(features_NF), ms_N, sample_weight=weight_N)
    weights_F = model.coef_ / standard.scale_F
    return Linear(weights_F, float(model.intercept_ - standard.centre_F @ weights_F))


def boosted_trees(features_NF: np.ndarray, residual_N: np.ndarray, seed: int) -> Trees:
    """Sixty trees of depth two on the log ratio that the base leaves."""
    ensemble = require("sklearn.ensemble")
    standard, rate = Standard.of(features_NF), 0.1
    model = ensemble.GradientBoostingRegressor(
        n_estimators=60, max_depth=2, learning_rate=rate, min_samples_leaf=3, max_features=0.5, random_state=seed
    )
    model.fit(standard(features_NF).astype(np.float32), residual_N)
    return Trees(standard, float(residual_N.mean()), rate, tuple(_tree(row[0].tree_) for row in model.estimators_))


def _tree(grown: object) -> Tree:
    left = np.asarray(grown.children_left)  # type: ignore[attr-defined]
    feature = np.where(left < 0, -1, np.asarray(grown.feature))  # type: ignore[attr-defined]
    threshold, value = np.asarray(grown.threshold), np.asarray(grown.value)  # type: ignore[attr-defined]
    right = np.asarray(grown.children_right)  # type: ignore[attr-defined]
    return Tree(feature, threshold.astype(float), left, right, value[:, 0, 0].astype(float))


def gaussian_bumps(features_NF: np.ndarray, residual_N: np.ndarray, noise: float) -> Kernel:
    """Kernel ridge regression on the log ratio; the length grows with the typical distance of networks."""
    kernel_ridge = require("sklearn.kernel_ridge")
    standard = Standard.of(features_NF)
    points_NF = standard(features_NF)
    distance_NN = ((points_NF[:, None, :] - points_NF[None, :, :]) ** 2).sum(axis=2)
    gamma = float(0.5 / max(np.median(distance_NN), 1e-9))
    model = kernel_ridge.KernelRidge(alpha=noise, kernel="rbf", gamma=gamma).fit(points_NF, residual_N)
    return Kernel(standard, points_NF, np.asarray(model.dual_coef_), gamma)


def gaussian_process(features_NF: np.ndarray, residual_N: np.ndarray, seed: int) -> Kernel:
    """A Gaussian process on the log ratio: length, height and noise by marginal likelihood; only its mean is kept."""
    gaussian = require("sklearn.gaussian_process")
    kernels = require("sklearn.gaussian_process.kernels")
    standard = Standard.of(features_NF)
    points_NF = standard(features_NF)
    size, height = float(np.sqrt(points_NF.shape[1])), max(float(residual_N.var()), 1e-8)
    bumps = kernels.ConstantKernel(height / 2, (height / 100, 10 * height)) * kernels.RBF(size, (size / 10, 10 * size))
    noise = kernels.WhiteKernel(height / 2, (height / 100, 2 * height))
    model = gaussian.GaussianProcessRegressor(bumps + noise, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bound that is reached is an answer: there is nothing but noise
        model.fit(points_NF, residual_N)
    fitted = model.kernel_.k1
    weights_M = fitted.k1.constant_value * np.asarray(model.alpha_).ravel()
    return Kernel(standard, points_NF, weights_M, float(0.5 / fitted.k2.length_scale**2))


def _stack(base: Linear, features_NF: np.ndarray, ms_N: np.ndarray) -> Stack:
    return Stack(base, None, float(0.2 * ms_N.min()))


def _with_residual(stack: Stack, features_NF: np.ndarray, ms_N: np.ndarray, kind: str, seed: int) -> Stack:
    residual_N = np.log(ms_N / stack.predict(features_NF))
    fitted: Trees | Kernel
    if kind == "trees":
        fitted = boosted_trees(features_NF, residual_N, seed)
    elif kind == "kernel":
        fitted = gaussian_bumps(features_NF, residual_N, 0.1)
    else:
        fitted = gaussian_process(features_NF, residual_N, seed)
    return Stack(stack.base, fitted, stack.floor_ms)


def _fitter(base: Callable[[np.ndarray, np.ndarray, float], Linear], strength: float, residual: str) -> Fitter:
    def fit(features_NF: np.ndarray, ms_N: np.ndarray, seed: int) -> Stack:
        stack = _stack(base(features_NF, ms_N, strength), features_NF, ms_N)
        return _with_residual(stack, features_NF, ms_N, residual, seed) if residual else stack

    return fit


def candidates() -> dict[str, Fitter]:
    """Everything that cross-validation may choose from, simplest first."""
    table: dict[str, Fitter] = {}
    for residual in RESIDUALS:
        suffix = f" + {residual}" if residual else ""
        for strength in (1e-6, 1e-4, 1e-3):
            table[f"non-negative {strength:g}{suffix}"] = _fitter(non_negative, strength, residual)
        for strength in (1e-3, 1e-2, 1e-1):
            table[f"ridge {strength:g}{suffix}"] = _fitter(ridge, strength, residual)
    return table
