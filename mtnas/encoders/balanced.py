"""A term that keeps experts in use, as a gradient of its own: the network's outputs and losses stay as they are.

Source: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", section 4
(the squared coefficient of variation of the experts' importance, what all gates together give them). Shape letter:
E = experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: as M3ViT and V-MoE weigh it
WEIGHT = 0.01


def importance_gradient(importance_E: Tensor, logits: Tensor) -> Tensor:
    """Of `WEIGHT` * variance / mean^2 of the importance, with respect to the logits that it was computed from."""
    variation = importance_E.var(correction=0) / importance_E.mean().square()
    return torch.autograd.grad(WEIGHT * variation, logits)[0]


class Balanced(torch.autograd.Function):
    """The identity, with a gradient of its own added."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return outer[0] + gradient, None
