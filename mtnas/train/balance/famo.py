"""Weights that let the logarithms of all losses fall at the same rate.

Source: Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", algorithms 1 and 2. With z = softmax(xi),
the weights are proportional to z / loss. After the step the same batch is looked at again, and xi follows the change d
of the log losses: xi falls by beta times (Jacobian of the softmax times d, plus gamma times xi), through Adam as in the
authors' code, with beta = 0.025 and gamma = 0.001. The paper scales the weights to a sum of 1, here it is the number of
tasks. One more forward pass per step, of the largest network; no backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtnas.train.balance.weighted import Weighted

BETA = 0.025
GAMMA = 0.001
FIRST, SECOND = 0.9, 0.999
SMALLEST = 1e-8


class Famo(Weighted):
    """Keeps xi, Adam's moments, and the last loss of each task; a task without labels keeps all three.

    The tasks' fixed weights are not seen by the method (it would undo them): they scale what it finds.
    """

    weighs_losses: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.xi_T: Tensor
        self.first_T: Tensor
        self.second_T: Tensor
        self.loss_T: Tensor
        self.labelled_T: Tensor
        self.steps: Tensor
        tasks = len(self.tasks)
        for name in ("xi_T", "first_T", "second_T"):
            self.register_buffer(name, torch.zeros(tasks))
        self.register_buffer("loss_T", torch.ones(tasks))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("labelled_T", torch.zeros(tasks, dtype=torch.bool), persistent=False)

    def weigh(self, losses_T: Tensor) -> Tensor:
        self.labelled_T.copy_(losses_T != 0)
        self.loss_T.copy_(torch.where(self.labelled_T, losses_T, self.loss_T).clamp_min(SMALLEST))
        weight_T = torch.softmax(self.xi_T, 0) / self.loss_T
        return len(self.tasks) * weight_T / weight_T.sum()

    @torch.no_grad()
    def look(self, losses: Mapping[str, Tensor]) -> None:
        fell_T = self.loss_T.log() - self.plain(losses).clamp_min(SMALLEST).log()
        fell_T = torch.where(self.labelled_T, fell_T, 0.0)
        z_T = torch.softmax(self.xi_T, 0)
        slope_T = z_T * (fell_T - (z_T * fell_T).sum()) + GAMMA * self.xi_T
        self.steps += 1
        self.first_T.lerp_(slope_T, 1 - FIRST)
        self.second_T.lerp_(slope_T**2, 1 - SECOND)
        first_T = self.first_T / (1 - FIRST**self.steps)
        second_T = self.second_T / (1 - SECOND**self.steps)
        self.xi_T -= BETA * first_T / (second_T.sqrt() + SMALLEST)
