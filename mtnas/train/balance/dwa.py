"""Weights by how slowly each loss falls.

Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", on "Dynamic Weight Average":
w = K softmax(r / 2) with r = L(t-1) / L(t-2) of the epochs' mean losses; w = 1 in the first two epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtnas.train.balance.weighted import Weighted

TEMPERATURE = 2.0


class DynamicAverage(Weighted):
    """Keeps the mean losses of this epoch and of the two before; batches without a label of a task do not count."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.sum_T: Tensor
        self.count_T: Tensor
        self.last_T: Tensor
        self.older_T: Tensor
        for name in ("sum_T", "count_T", "last_T", "older_T"):
            self.register_buffer(name, torch.zeros(len(self.tasks)))

    def weigh(self, losses_T: Tensor) -> Tensor:
        self.sum_T += losses_T
        self.count_T += losses_T != 0
        return self.weight_T

    @torch.no_grad()
    def end_epoch(self) -> None:
        mean_T = torch.where(self.count_T > 0, self.sum_T / self.count_T.clamp_min(1), self.last_T)
        self.older_T.copy_(self.last_T)
        self.last_T.copy_(mean_T)
        self.sum_T.zero_()
        self.count_T.zero_()
        known_T = (self.older_T != 0) & (self.last_T != 0)
        ratio_T = torch.where(known_T, self.last_T / self.older_T, 1.0)
        self.weight_T.copy_(len(self.tasks) * torch.softmax(ratio_T / TEMPERATURE, 0))
