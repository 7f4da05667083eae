"""One box per image. Output logits (B,4) of x0, y0, x1, y1 in shares of the sides, target (B,4) with NaN = not
labelled.

Loss: L1 of the corners plus 1 - generalised IoU (Rezatofighi et al., CVPR 2019). Metrics: mean IoU over labelled
images, and the share of them above 0.5. Corners that came out in the wrong order are taken as they are: such a box is
empty.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mtnas.tasks.base import Meter, Metric, Task, masked_mean


def area(box_B4: Tensor) -> Tensor:
    """(B,); 0 for corners in the wrong order."""
    return (box_B4[:, 2:] - box_B4[:, :2]).clamp_min(0).prod(dim=1)


def overlaps(a_B4: Tensor, b_B4: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of pairs of boxes, (B,) each."""
    shared = torch.cat([torch.maximum(a_B4[:, :2], b_B4[:, :2]), torch.minimum(a_B4[:, 2:], b_B4[:, 2:])], dim=1)
    hull = torch.cat([torch.minimum(a_B4[:, :2], b_B4[:, :2]), torch.maximum(a_B4[:, 2:], b_B4[:, 2:])], dim=1)
    both = area(shared)
    union = area(a_B4) + area(b_B4) - both
    iou = both / union.clamp_min(1e-9)
    around = area(hull)
    return iou, iou - (around - union) / around.clamp_min(1e-9)


class BoxMeter(Meter):
    """One IoU for each labelled image."""

    def __init__(self) -> None:
        self.ious: list[float] = []

    def update(self, output: Tensor, target: Tensor) -> None:
        labelled = ~target.isnan().any(dim=1)
        # in double, row by row the same whatever the batch
        iou = overlaps(output.detach().double()[labelled].sigmoid(), target.double()[labelled])[0]
        self.ious += iou.cpu().tolist()
        self.count += int(labelled.sum())

    def compute(self) -> dict[str, float]:
        if not self.count:
            return {"mean_iou": math.nan, "iou_above_0.5": math.nan}
        above = float((np.asarray(self.ious) > 0.5).mean())
        return {"mean_iou": 100.0 * math.fsum(self.ious) / self.count, "iou_above_0.5": 100.0 * above}


class Box(Task):
    type: ClassVar[str] = "box"
    dense: ClassVar[bool] = False
    activation: ClassVar[str] = "sigmoid"
    fixed_channels: ClassVar[int | None] = 4
    metrics = (Metric("mean_iou", "%", True), Metric("iou_above_0.5", "%", True))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        labelled = ~target.isnan().any(dim=1)
        box_B4, truth_B4 = output.float().sigmoid(), torch.where(labelled[:, None], target, 0.5)
        corners = (box_B4 - truth_B4).abs().mean(dim=1)
        return masked_mean(corners + 1 - overlaps(box_B4, truth_B4)[1], labelled.float())

    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (student.float().sigmoid() - teacher.detach().float().sigmoid()).abs().mean()

    def meter(self) -> Meter:
        return BoxMeter()

    def predict(self, output: Tensor) -> Tensor:
        return output.sigmoid()
