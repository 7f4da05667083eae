"""Weights learned from each task's noise.

Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
equation 7, in the usual form L exp(-s) / 2 + s / 2 with s = log of the variance. s starts at -log 2, where the weight
is the fixed one, and is kept in (-4, 4) by a tanh, since a loss near zero would drive it to minus infinity. A task
without labels in the batch does not move its s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtnas.train.balance.base import Balance

BOUND = 4.0


class Uncertainty(Balance):
    """Total = sum over tasks of weighted loss times exp(-s) / 2, plus s / 2 for the network that learns s."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        start = BOUND * math.atanh(-math.log(2.0) / BOUND)
        self.raw_T = nn.Parameter(torch.full((len(self.tasks),), start))

    def log_variance(self) -> Tensor:
        """s of each task."""
        return BOUND * torch.tanh(self.raw_T / BOUND)

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.tasks, self._weighted(losses).unbind(), strict=True))

    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        s_T = self.log_variance()
        stacked_T = self.stack(losses)
        s_T = torch.where(stacked_T.detach() != 0, s_T, s_T.detach())
        return (stacked_T * torch.exp(-s_T) / 2 + s_T / 2).sum()

    def apply_to(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self._weighted(losses).sum()

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.stack(losses) * torch.exp(-self.log_variance().detach()) / 2
