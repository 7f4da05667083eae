"""Depth in metres. Output (B,1,H,W) metres, target (B,1,H,W) metres with 0 = invalid.

All sums are pooled over the valid pixels of the split: no mean of batch means, no mean of per-image values, no cap.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean, sums_by_image


class DepthMeter(Meter):
    """Sums over valid pixels, kept per image and added exactly."""

    def __init__(self) -> None:
        self.absolute: list[float] = []
        self.relative: list[float] = []
        self.square: list[float] = []
        self.close = [0, 0, 0]

    def update(self, output: Tensor, target: Tensor) -> None:
        predicted = output.detach().float().cpu().numpy().astype(np.float64)
        truth = target.cpu().numpy().astype(np.float64)
        valid = truth > 0
        safe = np.where(valid, truth, 1.0)
        error = np.where(valid, np.abs(predicted - truth), 0.0)
        self.absolute += sums_by_image(error)
        self.relative += sums_by_image(error / safe)
        self.square += sums_by_image(error * error)
        positive = np.maximum(predicted, 1e-9)
        ratio = np.maximum(positive / safe, safe / positive)
        for power in range(3):
            self.close[power] += int(((ratio < 1.25 ** (power + 1)) & valid).sum())
        self.count += int(valid.sum())

    def compute(self) -> dict[str, float]:
        pixels = self.count or math.nan
        result = {
            "abs_err": math.fsum(self.absolute) / pixels,
            "rmse": math.sqrt(math.fsum(self.square) / pixels),
            "rel_err": 100.0 * math.fsum(self.relative) / pixels,
        }
        shares = {f"delta_1.25^{power + 1}": 100.0 * close / pixels for power, close in enumerate(self.close)}
        return {**result, **shares}


class Depth(Task):
    type: ClassVar[str] = "depth"
    fixed_channels: ClassVar[int | None] = 1
    metrics = (
        Metric("abs_err", "m", False),
        Metric("rmse", "m", False),
        Metric("rel_err", "%", False),
        Metric("delta_1.25^1", "%", True),
        Metric("delta_1.25^2", "%", True),
        Metric("delta_1.25^3", "%", True),
    )

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return masked_mean((output.float() - target).abs(), (target > 0).float())

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student.float() - teacher.detach().float()).abs().mean()

    def meter(self) -> Meter:
        return DepthMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output
