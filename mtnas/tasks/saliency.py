"""Saliency. Output logits (B,1,H,W), target (B,1,H,W) float 0/1 with 255 = not scored.

The two lines of the field score it differently; both numbers are here, each on probabilities squashed once:
- `max_f`: best of the thresholds 0.05 .. 0.95 of F with beta^2 = 0.3 from precision and recall pooled over the split
  (ATRC, InvPT);
- `max_miou`: IoU of the salient pixels per image, averaged over images at each of 15 thresholds from 0.2 to 0.9, then
  the best (MTI-Net, ASTMT). Images without a scored pixel do not count; one without salient pixels has IoU 1 when
  nothing is predicted there, else 0.

Loss: binary cross-entropy balanced by the share of salient pixels in the batch.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean

BETA_2 = 0.3
F_THRESHOLDS = np.arange(1, 20) / 20
IOU_THRESHOLDS = np.linspace(0.2, 0.9, 15)


class SaliencyMeter(Meter):
    """Pooled counts per threshold, and one IoU per image and threshold."""

    def __init__(self) -> None:
        self.hits = np.zeros(len(F_THRESHOLDS), np.int64)
        self.predicted = np.zeros(len(F_THRESHOLDS), np.int64)
        self.salient = 0
        self.ious: list[np.ndarray] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        probability = output.detach().float().sigmoid().cpu().numpy()[:, 0].astype(np.float64)
        truth = target.cpu().numpy()[:, 0]
        for chance_HW, truth_HW in zip(probability, truth):
            scored = truth_HW <= 1
            if scored.any():
                self._add(chance_HW[scored], truth_HW[scored] == 1)

    def _add(self, chance_P: np.ndarray, salient_P: np.ndarray) -> None:
        self.hits += reached(chance_P[salient_P], F_THRESHOLDS)
        self.predicted += reached(chance_P, F_THRESHOLDS)
        count = int(salient_P.sum())
        both = reached(chance_P[salient_P], IOU_THRESHOLDS)
        union = count + reached(chance_P, IOU_THRESHOLDS) - both
        self.ious.append(np.where(union > 0, both / np.maximum(union, 1), 1.0))
        self.salient += count
        self.count += len(chance_P)

    def f_T(self) -> np.ndarray:
        """F for each threshold, as a share."""
        precision = self.hits / np.maximum(self.predicted, 1)
        recall = self.hits / max(self.salient, 1)
        return (1 + BETA_2) * precision * recall / np.maximum(BETA_2 * precision + recall, 1e-12)

    def compute(self) -> dict[str, float]:
        if not self.count:
            return {"max_f": math.nan, "max_miou": math.nan}
        # exact sums, so that the order and the batches do not matter
        means = [math.fsum(column) / len(self.ious) for column in np.stack(self.ious, axis=1)]
        best = 100.0 * float(self.f_T().max()) if self.salient else math.nan
        return {"max_f": best, "max_miou": 100.0 * max(means)}

    def details(self) -> dict[str, float]:
        return {**super().details(), "best_threshold": float(F_THRESHOLDS[int(self.f_T().argmax())])}


def reached(chance_P: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
    """For each threshold, how many probabilities reach it."""
    level = np.searchsorted(thresholds_T, chance_P, side="right")
    counts = np.bincount(level, minlength=len(thresholds_T) + 1)
    return np.asarray(counts[::-1].cumsum()[::-1][1:])


class Saliency(Task):
    type: ClassVar[str] = "saliency"
    activation: ClassVar[str] = "sigmoid"
    fixed_channels: ClassVar[int | None] = 1
    metrics = (Metric("max_f", "%", True), Metric("max_miou", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        salient, scored = (target == 1).float(), (target <= 1).float()
        share = salient.sum() / scored.sum().clamp_min(1)
        # the rarer side weighs more; a batch with one side only weighs it fully
        weight = scored * (salient * (1 - share) + (1 - salient) * share)
        weight = torch.where(weight.sum() > 0, weight, scored)
        return masked_mean(F.binary_cross_entropy_with_logits(output.float(), salient, reduction="none"), weight)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(student.float(), teacher.detach().float().sigmoid())

    def meter(self) -> Meter:
        return SaliencyMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()
