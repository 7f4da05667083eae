"""Multi-label presence. Output logits (B,K), target (B,K) float 0/1 with 255 = not scored.

Primary metric: mean average precision (step-wise area under precision-recall, ties of scores taken together), over
classes that have both positives and negatives; a class that is always or never there cannot be ranked. Second: macro
F1 at probability 0.5 over the same classes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean


def average_precision(score_N: np.ndarray, truth_N: np.ndarray) -> float:
    """Sum over distinct scores, highest first, of precision times the rise of recall."""
    order = np.argsort(-score_N, kind="stable")
    score_N, truth_N = score_N[order], truth_N[order]
    last_of_tie = np.append(score_N[1:] != score_N[:-1], True)
    hits = np.cumsum(truth_N)[last_of_tie]
    seen = np.flatnonzero(last_of_tie) + 1
    rise = np.diff(hits, prepend=0)
    return float((hits / seen * rise).sum() / hits[-1])


def f1(predicted_N: np.ndarray, truth_N: np.ndarray) -> float:
    hits = float((predicted_N & truth_N).sum())
    return 2 * hits / max(float(predicted_N.sum() + truth_N.sum()), 1.0)


class PresenceMeter(Meter):
    """Keeps every score: images are few compared with pixels."""

    def __init__(self) -> None:
        self.scores: list[np.ndarray] = []
        self.truths: list[np.ndarray] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        truth = target.cpu().numpy()
        self.scores.append(output.detach().float().cpu().numpy())
        self.truths.append(truth)
        self.count += int((truth <= 1).sum())

    def by_class(self) -> list[tuple[float, float]]:
        """Average precision and F1 of each class that can be ranked."""
        if not self.scores:
            return []
        scores_NK, truths_NK = np.concatenate(self.scores), np.concatenate(self.truths)
        rows = []
        for score_N, truth_N in zip(scores_NK.T, truths_NK.T):
            scored = truth_N <= 1
            score, truth = score_N[scored], truth_N[scored] == 1
            if truth.any() and not truth.all():
                rows.append((average_precision(score, truth), f1(score > 0, truth)))
        return rows

    def compute(self) -> dict[str, float]:
        rows = self.by_class()
        if not rows:
            return {"mean_ap": math.nan, "f1": math.nan}
        ap, f = (100.0 * float(np.mean(column)) for column in zip(*rows))
        return {"mean_ap": ap, "f1": f}

    def details(self) -> dict[str, float]:
        return {**super().details(), "classes_ranked": float(len(self.by_class()))}


class Presence(Task):
    type: ClassVar[str] = "presence"
    dense: ClassVar[bool] = False
    activation: ClassVar[str] = "sigmoid"
    metrics = (Metric("mean_ap", "%", True), Metric("f1", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        present, scored = (target == 1).float(), (target <= 1).float()
        return masked_mean(F.binary_cross_entropy_with_logits(output.float(), present, reduction="none"), scored)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(student.float(), teacher.detach().float().sigmoid())

    def meter(self) -> Meter:
        return PresenceMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()
