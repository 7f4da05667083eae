"""Disparity. Output and target (B,1,H,W) in the unit of the data set (pixels, or the scaled values of its files); a
negative target is invalid, zero is a point at infinity.

Sums are pooled over the valid pixels of the split. There is no relative error: it is ruled by the smallest disparities.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean, sums_by_image


class DisparityMeter(Meter):
    """Sums over valid pixels, kept per image and added exactly."""

    def __init__(self) -> None:
        self.absolute: list[float] = []
        self.square: list[float] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        predicted = output.detach().float().cpu().numpy().astype(np.float64)
        truth = target.cpu().numpy().astype(np.float64)
        valid = truth >= 0
        error = np.where(valid, np.abs(predicted - truth), 0.0)
        self.absolute += sums_by_image(error)
        self.square += sums_by_image(error * error)
        self.count += int(valid.sum())

    def compute(self) -> dict[str, float]:
        pixels = self.count or math.nan
        return {
            "abs_err": math.fsum(self.absolute) / pixels,
            "rmse": math.sqrt(math.fsum(self.square) / pixels),
        }


class Disparity(Task):
    type: ClassVar[str] = "disparity"
    fixed_channels: ClassVar[int | None] = 1
    metrics = (Metric("abs_err", "", False), Metric("rmse", "", False))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return masked_mean((output.float() - target).abs(), (target >= 0).float())

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student.float() - teacher.detach().float()).abs().mean()

    def meter(self) -> Meter:
        return DisparityMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output
