"""The contract of a balancing method.

Methods work on losses only: with several sub-networks per step, gradients per task would cost one backward pass for
each task and sub-network. Whatever is learned is learned from the largest network alone, one weight per task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Balance(nn.Module):
    """Weighs the tasks' losses. State lives in parameters and buffers, so that checkpoints hold it.

    Args:
        weights: fixed weight of each task, by name.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.tasks = tuple(weights)
        self.fixed_T: Tensor
        self.register_buffer("fixed_T", torch.tensor([weights[task] for task in self.tasks]), persistent=False)

    def stack(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Losses times their fixed weights, as one vector."""
        return torch.stack([losses[task] for task in self.tasks]) * self.fixed_T

    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The largest network's total; gradients reach the method's own parameters."""
        raise NotImplementedError

    def apply_to(self, losses: Mapping[str, Tensor]) -> Tensor:
        """A sub-network's total with the weights as they are."""
        raise NotImplementedError
