"""Fixed weights: the sum of weighted losses. The baseline that specialised methods rarely beat."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mtnas.train.balance.base import Balance


class Fixed(Balance):
    """Total = sum over tasks of weight times loss."""

    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.stack(losses).sum()

    def apply_to(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.stack(losses).sum()
