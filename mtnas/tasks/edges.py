"""Edges. Output logits (B,1,H,W), target (B,1,H,W) float 0/1 with 255 = not scored.

`edge_f_dt@1px`: the F-score at the best of 99 thresholds common to the split. A predicted pixel is right when an edge
lies at most one pixel away (Euclidean, so the four neighbours); an edge pixel is found when a predicted one does.
There is no thinning and no one-to-one matching, so this is not the odsF of BSDS and must not be compared with it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean

POSITIVE_WEIGHT = 0.8
THRESHOLDS = np.arange(1, 100, dtype=np.float32) / np.float32(100)


def nearby_max(maps_BHW: np.ndarray) -> np.ndarray:
    """Largest value of each pixel and its four neighbours."""
    result = maps_BHW.copy()
    np.maximum(result[:, 1:], maps_BHW[:, :-1], out=result[:, 1:])
    np.maximum(result[:, :-1], maps_BHW[:, 1:], out=result[:, :-1])
    np.maximum(result[:, :, 1:], maps_BHW[:, :, :-1], out=result[:, :, 1:])
    np.maximum(result[:, :, :-1], maps_BHW[:, :, 1:], out=result[:, :, :-1])
    return result


def reached(probability: np.ndarray) -> np.ndarray:
    """For each threshold, how many of the values reach it."""
    level = np.searchsorted(THRESHOLDS, probability, side="right")
    counts = np.bincount(level, minlength=len(THRESHOLDS) + 1)
    return counts[::-1].cumsum()[::-1][1:]


class EdgesMeter(Meter):
    """Integer counts per threshold: predicted, predicted and right, true and found, true."""

    def __init__(self) -> None:
        self.predicted = np.zeros(len(THRESHOLDS), np.int64)
        self.right = np.zeros(len(THRESHOLDS), np.int64)
        self.found = np.zeros(len(THRESHOLDS), np.int64)
        self.edges = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        probability = output.detach().float().sigmoid().cpu().numpy()[:, 0]
        truth = target.cpu().numpy()[:, 0]
        valid, edge = truth <= 1, truth == 1
        probability = np.where(valid, probability, np.float32(0))
        near_edge = nearby_max(edge) & valid
        self.predicted += reached(probability[valid])
        self.right += reached(probability[near_edge])
        self.found += reached(nearby_max(probability)[edge])
        self.edges += int(edge.sum())
        self.count += int(valid.sum())

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and F for each threshold, as shares."""
        precision = self.right / np.maximum(self.predicted, 1)
        recall = self.found / max(self.edges, 1)
        return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    def compute(self) -> dict[str, float]:
        return {"edge_f_dt@1px": 100.0 * float(self.curve()[2].max()) if self.edges else math.nan}

    def details(self) -> dict[str, float]:
        precision, recall, f = self.curve()
        best = int(f.argmax())
        return {
            **super().details(),
            "best_threshold": float(THRESHOLDS[best]),
            "precision": 100.0 * float(precision[best]),
            "recall": 100.0 * float(recall[best]),
        }


class Edges(Task):
    type: ClassVar[str] = "edges"
    activation: ClassVar[str] = "sigmoid"
    fixed_channels: ClassVar[int | None] = 1
    metrics = (Metric("edge_f_dt@1px", "%", True),)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        edge, valid = (target == 1).float(), (target <= 1).float()
        weight = valid * ((1 - POSITIVE_WEIGHT) + (2 * POSITIVE_WEIGHT - 1) * edge)
        return masked_mean(F.binary_cross_entropy_with_logits(output.float(), edge, reduction="none"), weight)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(student.float(), teacher.detach().float().sigmoid())

    def meter(self) -> Meter:
        return EdgesMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()
