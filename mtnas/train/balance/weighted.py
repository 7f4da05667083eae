"""What the methods that give every task a number have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtnas.train.balance.base import Balance


class Weighted(Balance):
    """Total = sum over tasks of fixed weight times the method's weight times loss; the latter start at one."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.weight_T: Tensor
        self.register_buffer("weight_T", torch.ones(len(self.tasks)))

    def weigh(self, losses_T: Tensor) -> Tensor:
        """The weights of this step, from the largest network's losses; they add up to the number of tasks."""
        raise NotImplementedError

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.tasks, (self.stack(losses) * self.weight_T).unbind(), strict=True))

    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            self.weight_T.copy_(self.weigh(self.plain(losses).detach()))
        return self.apply_to(losses)
