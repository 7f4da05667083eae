"""Gradients made orthogonal and equally long before they are added.

Source: Senushkin, Patakin, Kuznetsov, Konushin, "Independent Component Alignment for Multi-Task Learning", algorithm 1:
weights sigma_min V Lambda^(-1/2) V^T w with G = V Lambda V^T; w is one for every task here. Solved by torchjd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtnas.train.balance.gradient import GradientBalance, torchjd


class AlignedMtl(GradientBalance):
    """The step is as long as the weakest independent component allows; orthogonal gradients of one length just add."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        rule = torchjd("aligned").AlignedMTLWeighting(torch.ones(len(gram_PP), dtype=gram_PP.dtype))
        return rule(gram_PP)
