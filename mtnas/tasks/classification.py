"""Image classification. Output logits (B,K), target (B,) int64 with -1 = not scored."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import UNLABELLED, Meter, Metric, Task


class ClassificationMeter(Meter):
    """Confusion matrix, rows = ground truth."""

    def __init__(self, classes: int) -> None:
        self.confusion_KK = np.zeros((classes, classes), np.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        predicted, truth = output.detach().argmax(dim=1).cpu().numpy(), target.cpu().numpy()
        valid = truth != UNLABELLED
        np.add.at(self.confusion_KK, (truth[valid], predicted[valid]), 1)
        self.count += int(valid.sum())

    def compute(self) -> dict[str, float]:
        if not self.count:
            return {"accuracy": float("nan"), "balanced_accuracy": float("nan")}
        hits, truth = np.diag(self.confusion_KK), self.confusion_KK.sum(1)
        recall = hits[truth > 0] / truth[truth > 0]
        return {"accuracy": 100.0 * float(hits.sum()) / self.count, "balanced_accuracy": 100.0 * float(recall.mean())}

    def details(self) -> dict[str, float]:
        present = int((self.confusion_KK.sum(1) > 0).sum())
        return {**super().details(), "classes_present": float(present)}


class Classification(Task):
    type: ClassVar[str] = "classification"
    dense: ClassVar[bool] = False
    activation: ClassVar[str] = "softmax"
    metrics = (Metric("accuracy", "%", True), Metric("balanced_accuracy", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(output.float(), target, ignore_index=UNLABELLED, reduction="sum")
        return total / (target != UNLABELLED).sum().clamp_min(1)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.cross_entropy(student.float(), teacher.detach().float().softmax(dim=1))

    def meter(self) -> Meter:
        return ClassificationMeter(self.spec.channels)

    def predict(self, output: Tensor) -> Tensor:
        return output.argmax(dim=1)
