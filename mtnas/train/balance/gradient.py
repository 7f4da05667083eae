"""What the methods have in common that weigh the gradients of shared parameters.

J has one row per task: the gradient of the task's weighted loss with respect to all parameters that serve more than
one task, summed over the sub-networks of the step. A method sees the inner products of the rows, G = J J^T, and
answers with one weight per row; shared parameters then move along the weighted sum of the rows. Parameters of a
single task get their ordinary gradient, as in the papers.

Cost: as many backward passes through the shared part as there are tasks, for each sub-network (one for each
sub-network with methods that weigh losses), and one copy of the shared parameters per task.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from mtnas.base.optional import require
from mtnas.train.balance.base import Balance


class GradientBalance(Balance):
    """Weighs gradients; its losses are weighed with the fixed weights alone."""

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.tasks, self.stack(losses).unbind(), strict=True))

    def solve(self, gram_PP: Tensor) -> Tensor:
        """(P,) weights of the rows, from their inner products: float64 on the CPU, no row zero, mean square one."""
        raise NotImplementedError

    @torch.no_grad()
    def combine(self, gram_TT: Tensor) -> Tensor:
        """(T,) weights of the rows, on the device and in the precision of `gram_TT`.

        Rows of zeros (tasks without a label in the batch) are left out and get 1, as does a row that is alone, and
        all rows where an entry is not finite, so that the engine sees the gradient that is not.
        """
        gram = gram_TT.double().cpu()
        weight_T = torch.ones(len(gram), dtype=torch.float64)
        rows = torch.nonzero(gram.diagonal() > 0).flatten()
        if len(rows) > 1 and torch.isfinite(gram).all():
            part = gram[rows][:, rows]
            weight_T[rows] = self.solve(part / part.diagonal().mean()).double()
        return weight_T.to(gram_TT)


def root_of(gram_PP: Tensor) -> np.ndarray:
    """R with G = R^T R: its columns are as long as the rows of J, and stand to each other as they do."""
    values_P, vectors_PP = np.linalg.eigh(gram_PP.numpy())
    return np.sqrt(values_P.clip(min=0))[:, None] * vectors_PP.T


def torchjd(name: str) -> ModuleType:
    """The library's aggregation rules; raises `PackageMissing` for the method `name`."""
    return require("torchjd.aggregation", extra="balance", why=f"train.balance: {name}")
