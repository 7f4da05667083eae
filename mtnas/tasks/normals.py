"""Surface normals. Output (B,3,H,W) of any length, target (B,3,H,W) unit vectors with 0 = invalid.

Loss: L1 between unit vectors, mean over channels and valid pixels (codes that sum over channels get three times the
value). Angle: 2 atan2(|a-b|, |a+b|), which stays exact near 0 and 180 degrees where arccos does not.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean, sums_by_image

LIMITS_DEG = (11.25, 22.5, 30.0)
BINS = 18_000


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length one along the channels, in float32; five times faster on a CPU than torch's `normalize`."""
    vectors = vectors.float()
    return vectors * (vectors * vectors).sum(dim=1, keepdim=True).clamp_min(1e-8).rsqrt()


def angles_deg(a_BCHW: np.ndarray, b_BCHW: np.ndarray) -> np.ndarray:
    """Angle between unit vectors, (B,H,W), in degrees."""
    apart = np.sqrt(((a_BCHW - b_BCHW) ** 2).sum(axis=1))
    along = np.sqrt(((a_BCHW + b_BCHW) ** 2).sum(axis=1))
    return np.degrees(2.0 * np.arctan2(apart, along))


class NormalsMeter(Meter):
    """Exact mean and shares; the median from a histogram of 0.01 degree, interpolated inside its bin."""

    def __init__(self) -> None:
        self.sums: list[float] = []
        self.within = [0, 0, 0]
        self.histogram = np.zeros(BINS, np.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        predicted = unit(output.detach()).cpu().numpy().astype(np.float64)
        truth = target.cpu().numpy().astype(np.float64)
        length = np.sqrt((truth**2).sum(axis=1))
        valid = length > 0.5
        truth /= np.where(valid, length, 1.0)[:, None]
        angle = angles_deg(predicted, truth)
        self.sums += sums_by_image(np.where(valid, angle, 0.0))
        scored = angle[valid]
        for i, limit in enumerate(LIMITS_DEG):
            self.within[i] += int((scored < limit).sum())
        bins = np.minimum((np.nan_to_num(scored, nan=180.0) * (BINS / 180.0)).astype(np.int64), BINS - 1)
        self.histogram += np.bincount(bins, minlength=BINS)
        self.count += len(scored)

    def median(self) -> float:
        if not self.count:
            return math.nan
        cumulative = np.cumsum(self.histogram)
        half = self.count / 2.0
        at = int(np.searchsorted(cumulative, half))
        before = cumulative[at] - self.histogram[at]
        return float((at + (half - before) / self.histogram[at]) * (180.0 / BINS))

    def compute(self) -> dict[str, float]:
        pixels = self.count or math.nan
        shares = {f"within_{limit:g}": 100.0 * n / pixels for limit, n in zip(LIMITS_DEG, self.within)}
        return {"mean_angle": math.fsum(self.sums) / pixels, "median_angle": self.median(), **shares}


class Normals(Task):
    type: ClassVar[str] = "normals"
    activation: ClassVar[str] = "l2_normalise"
    fixed_channels: ClassVar[int | None] = 3
    metrics = (
        Metric("mean_angle", "deg", False),
        Metric("median_angle", "deg", False),
        *(Metric(f"within_{limit:g}", "%", True) for limit in LIMITS_DEG),
    )

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        valid = (target != 0).any(dim=1, keepdim=True).float()
        return masked_mean((unit(output) - target).abs(), valid)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (1.0 - (unit(student) * unit(teacher.detach())).sum(dim=1)).mean()

    def meter(self) -> Meter:
        return NormalsMeter()

    def predict(self, output: Tensor) -> Tensor:
        return unit(output)
