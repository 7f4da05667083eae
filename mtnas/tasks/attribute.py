"""A yes-or-no attribute of an image. Output logits (B,1), target (B,1) float 0/1 with 255 = not labelled.

Primary metric: F1 of the positive class at probability 0.5, as in FAMO's CelebA numbers (their headline is its mean
over the attributes); 0 when nothing is hit. `accuracy` is 100 minus the error rate of Sener and Koltun.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean


class AttributeMeter(Meter):
    """The four counts of a yes-or-no answer."""

    def __init__(self) -> None:
        self.hits = 0
        self.said = 0
        self.true = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        truth = target.cpu().numpy()
        scored = truth <= 1
        said = output.detach().float().cpu().numpy()[scored] > 0
        positive = truth[scored] == 1
        self.hits += int((said & positive).sum())
        self.said += int(said.sum())
        self.true += int(positive.sum())
        self.count += int(scored.sum())

    def compute(self) -> dict[str, float]:
        if not self.count:
            return {"f1": math.nan, "accuracy": math.nan}
        wrong = self.said + self.true - 2 * self.hits
        f1 = 2 * self.hits / max(self.said + self.true, 1)
        return {"f1": 100.0 * f1, "accuracy": 100.0 * (self.count - wrong) / self.count}

    def details(self) -> dict[str, float]:
        return {**super().details(), "positives": float(self.true)}


class Attribute(Task):
    type: ClassVar[str] = "attribute"
    dense: ClassVar[bool] = False
    activation: ClassVar[str] = "sigmoid"
    fixed_channels: ClassVar[int | None] = 1
    metrics = (Metric("f1", "%", True), Metric("accuracy", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        positive, scored = (target == 1).float(), (target <= 1).float()
        return masked_mean(F.binary_cross_entropy_with_logits(output.float(), positive, reduction="none"), scored)

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(student.float(), teacher.detach().float().sigmoid())

    def meter(self) -> Meter:
        return AttributeMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()
