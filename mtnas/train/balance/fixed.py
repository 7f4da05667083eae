"""Fixed weights: the sum of weighted losses. The baseline that specialised methods rarely beat."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mtnas.train.balance.base import Balance


class Fixed(Balance):
    """Total = sum over tasks of weight times loss."""

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.tasks, self.stack(losses).unbind(), strict=True))

    def apply_to(self, losses: Mapping[str, Tensor]) -> Tensor:
        return self.stack(losses).sum()
