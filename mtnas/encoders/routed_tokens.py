"""Token-level routing, to compare with: for each task, every token asks for experts by itself.

Source: Liang, Fan et al., M3ViT (see `routed`), its variant with one router for each task: a softmax over all experts
of which the largest k are used as they are; no noise, as in its published runs. Here all experts run on all tokens, and
what a token did not ask for counts zero: fixed shapes are what files, int8 and runtimes need. So the cost is that of
all experts, and of a task's file as well, since some token may ask for any of them.
Shape letters: B = batch, N = tokens, C = channels, E = experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtnas.encoders.balanced import Balanced, importance_gradient
from mtnas.encoders.routed import Expert, RoutedMlp


class TokenExperts(RoutedMlp):
    """`sum over the largest k of softmax(gate(x))_e * expert_e(x)`, token by token, with one gate for each task.

    In training the gradient of a balance term keeps the experts in use: 0.01 times the squared variation of what the
    tokens of one batch together give each expert (the term of the same source for the number of tokens has no gradient
    without noise).
    """

    def __init__(self, tasks: Sequence[str], channels: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__(channels)
        self.top_k = top_k
        self.gates = nn.ModuleDict({task: nn.Linear(channels, experts, bias=False) for task in tasks})
        self.experts = nn.ModuleList([Expert(channels, hidden) for _ in range(experts)])

    def mixed(self, normed_BNC: Tensor, task: str) -> Tensor:
        logits_BNE: Tensor = self.gates[task](normed_BNC)
        if self.training and logits_BNE.requires_grad:
            logits_BNE = Balanced.apply(logits_BNE, _balance_gradient(logits_BNE))
        weights_BNE = logits_BNE.softmax(-1)
        weights_BNE = weights_BNE * (weights_BNE >= _kth_largest(weights_BNE.detach(), self.top_k))
        found = [weights_BNE[..., e : e + 1] * expert(normed_BNC) for e, expert in enumerate(self.experts)]
        return sum(found[1:], found[0])

    def experts_of(self, task: str) -> list[int]:
        """All of them: which ones run is known only when a token is seen."""
        return list(range(len(self.experts)))


def _kth_largest(weights_BNE: Tensor, k: int) -> Tensor:
    """(B,N,1), by comparisons alone: sorting is what exported graphs cannot do everywhere."""
    for _ in range(k - 1):
        weights_BNE = weights_BNE * (weights_BNE < weights_BNE.amax(-1, keepdim=True))
    return weights_BNE.amax(-1, keepdim=True)


def _balance_gradient(logits_BNE: Tensor) -> Tensor:
    with torch.enable_grad():
        own_BNE = logits_BNE.detach().float().requires_grad_()
        return importance_gradient(own_BNE.softmax(-1).sum((0, 1)), own_BNE).to(logits_BNE)
