"""The fitted shapes a latency predictor is made of: numbers only, evaluated with numpy, kept as JSON.

A `Stack` multiplies a linear base (milliseconds) by the exponential of a learned residual (log ratio).
Shape letters: N = networks, F = features, M = support points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_RESIDUAL_CAP = 0.5  # a correction by more than a factor 1.65 is extrapolation, not knowledge


@dataclass(frozen=True)
class Linear:
    """Milliseconds as a weighted sum of features, plus a constant."""

    weights_F: np.ndarray
    intercept: float

    def predict(self, features_NF: np.ndarray) -> np.ndarray:
        return features_NF @ self.weights_F + self.intercept

    def to_json(self) -> dict[str, Any]:
        return {"weights": self.weights_F.tolist(), "intercept": self.intercept}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Linear:
        return Linear(np.asarray(data["weights"], dtype=float), float(data["intercept"]))


@dataclass(frozen=True)
class Standard:
    """Features brought to mean 0 and spread 1; constant ones become 0."""

    centre_F: np.ndarray
    scale_F: np.ndarray

    @staticmethod
    def of(features_NF: np.ndarray) -> Standard:
        centre_F, spread_F = features_NF.mean(axis=0), features_NF.std(axis=0)
        still_F = spread_F <= 1e-9 * (1.0 + np.abs(centre_F))
        return Standard(centre_F, np.where(still_F, np.inf, spread_F))

    def __call__(self, features_NF: np.ndarray) -> np.ndarray:
        return (features_NF - self.centre_F) / self.scale_F

    def to_json(self) -> dict[str, Any]:
        spread = [None if np.isinf(s) else float(s) for s in self.scale_F]
        return {"centre": self.centre_F.tolist(), "scale": spread}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Standard:
        scale = [np.inf if s is None else s for s in data["scale"]]
        return Standard(np.asarray(data["centre"], dtype=float), np.asarray(scale, dtype=float))


@dataclass(frozen=True)
class Tree:
    """A regression tree as flat arrays; `feature` is -1 at a leaf."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def predict(self, features_NF: np.ndarray) -> np.ndarray:
        rows, node_N = np.arange(len(features_NF)), np.zeros(len(features_NF), dtype=int)
        while np.any(inner_N := self.feature[node_N] >= 0):
            # float32, because the trees were grown on float32
            goes_left_N = features_NF[rows, self.feature[node_N]].astype(np.float32) <= self.threshold[node_N]
            node_N = np.where(inner_N, np.where(goes_left_N, self.left[node_N], self.right[node_N]), node_N)
        return self.value[node_N]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("feature", "threshold", "left", "right", "value")}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Tree:
        whole = {name: np.asarray(data[name], dtype=int) for name in ("feature", "left", "right")}
        real = {name: np.asarray(data[name], dtype=float) for name in ("threshold", "value")}
        return Tree(**whole, **real)


@dataclass(frozen=True)
class Trees:
    """A boosted sum of small trees on standardised features."""

    standard: Standard
    start: float
    rate: float
    trees: tuple[Tree, ...]

    def predict(self, features_NF: np.ndarray) -> np.ndarray:
        scaled_NF = self.standard(features_NF)
        total_N = np.full(len(features_NF), self.start)
        for tree in self.trees:
            total_N = total_N + self.rate * tree.predict(scaled_NF)
        return total_N

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "trees",
            "standard": self.standard.to_json(),
            "start": self.start,
            "rate": self.rate,
            "trees": [tree.to_json() for tree in self.trees],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Trees:
        trees = tuple(Tree.from_json(tree) for tree in data["trees"])
        return Trees(Standard.from_json(data["standard"]), data["start"], data["rate"], trees)


@dataclass(frozen=True)
class Kernel:
    """A weighted sum of Gaussian bumps around the measured networks; zero far from all of them."""

    standard: Standard
    points_MF: np.ndarray
    weights_M: np.ndarray
    gamma: float

    def predict(self, features_NF: np.ndarray) -> np.ndarray:
        scaled_NF = self.standard(features_NF)
        distance_NM = ((scaled_NF[:, None, :] - self.points_MF[None, :, :]) ** 2).sum(axis=2)
        return np.exp(-self.gamma * distance_NM) @ self.weights_M

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "kernel",
            "standard": self.standard.to_json(),
            "points": self.points_MF.tolist(),
            "weights": self.weights_M.tolist(),
            "gamma": self.gamma,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Kernel:
        points, weights = np.asarray(data["points"], dtype=float), np.asarray(data["weights"], dtype=float)
        return Kernel(Standard.from_json(data["standard"]), points, weights, data["gamma"])


@dataclass(frozen=True)
class Stack:
    """Base times the exponential of the residual, never below `floor_ms`."""

    base: Linear
    residual: Trees | Kernel | None
    floor_ms: float

    def predict(self, features_NF: np.ndarray) -> np.ndarray:
        base_N = np.maximum(self.base.predict(features_NF), self.floor_ms)
        if self.residual is None:
            return base_N
        return base_N * np.exp(np.clip(self.residual.predict(features_NF), -_RESIDUAL_CAP, _RESIDUAL_CAP))

    def to_json(self) -> dict[str, Any]:
        residual = self.residual.to_json() if self.residual is not None else None
        return {"base": self.base.to_json(), "residual": residual, "floor_ms": self.floor_ms}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Stack:
        residual: Trees | Kernel | None = None
        if data["residual"] is not None:
            trees = data["residual"]["kind"] == "trees"
            residual = Trees.from_json(data["residual"]) if trees else Kernel.from_json(data["residual"])
        return Stack(Linear.from_json(data["base"]), residual, data["floor_ms"])
