"""Semantic segmentation. Output logits (B,K,H,W), target (B,H,W) int64 with 255 = ignore.

mIoU comes from one confusion matrix over the whole split; the mean runs over classes that occur in the ground truth
(benchmark codes differ here: some count an absent class as 0, some drop every class without a hit).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import IGNORE, Meter, Metric, Task


class SegmentationMeter(Meter):
    """Confusion matrix, rows = ground truth, columns = prediction."""

    def __init__(self, classes: int) -> None:
        self.confusion_KK = np.zeros((classes, classes), np.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        classes = len(self.confusion_KK)
        # several times faster than argmax over a strided axis
        predicted = output.detach().max(dim=1).indices.cpu().numpy().reshape(-1)
        truth = target.cpu().numpy().reshape(-1)
        valid = truth != IGNORE
        pairs = truth[valid] * classes + predicted[valid]
        self.confusion_KK += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
        self.count += int(valid.sum())

    def iou_K(self) -> np.ndarray:
        """Intersection over union in percent; NaN for classes that the ground truth does not contain."""
        hits = np.diag(self.confusion_KK).astype(np.float64)
        truth, predicted = self.confusion_KK.sum(1), self.confusion_KK.sum(0)
        union = np.where(truth > 0, truth + predicted - hits, np.nan)
        return 100.0 * hits / union

    def compute(self) -> dict[str, float]:
        if not self.count:
            return {"miou": float("nan"), "pixel_accuracy": float("nan")}
        accuracy = 100.0 * float(np.trace(self.confusion_KK)) / float(self.confusion_KK.sum())
        return {"miou": float(np.nanmean(self.iou_K())), "pixel_accuracy": accuracy}

    def details(self) -> dict[str, float]:
        iou_K = self.iou_K()
        present = {f"iou_{k}": float(iou) for k, iou in enumerate(iou_K) if not np.isnan(iou)}
        return {**super().details(), "classes_present": float(len(present)), **present}


class Segmentation(Task):
    type: ClassVar[str] = "segmentation"
    activation: ClassVar[str] = "softmax"
    metrics = (Metric("miou", "%", True), Metric("pixel_accuracy", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(output.float(), target, ignore_index=IGNORE, reduction="sum")
        return total / (target != IGNORE).sum().clamp_min(1)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.cross_entropy(student.float(), teacher.detach().float().softmax(dim=1))

    def meter(self) -> Meter:
        return SegmentationMeter(self.spec.channels)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(dim=1)
