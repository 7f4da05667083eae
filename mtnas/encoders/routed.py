"""MLPs of experts that a task chooses: task-level routing, whatever the token.

Sources: Liang, Fan et al., "M3ViT: Mixture-of-Experts Vision Transformer for Efficient Multi-task Learning with
Model-Accelerator Co-design" (experts in every second block, the work of one dense MLP); Gupta et al., "Sparsely
Activated Mixture-of-Experts are Robust Multi-Task Learners" (gates that know the task). A choice by task alone
keeps a task's experts fixed, so that they can be cut out. The gate is a softmax over all experts of which the largest k
are used as they are, with noise in training only (Riquelme et al., "Scaling Vision with Sparse Mixture of Experts").
Shape letters: B = batch, N = tokens, C = channels, E = experts, K = experts of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Expert(nn.Module):
    """`reduce(gelu(expand(x)))`, token by token (B,N,C)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, hidden)
        self.gelu = nn.GELU()
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return self.reduce(self.gelu(self.expand(x_BNC)))


class RoutedMlp(nn.Module):
    """`x + sum of weight * expert(norm(x))` over a task's experts; the weights are learned, no token is asked.

    In training every pass chooses anew, by logits with noise, and remembers the choice without noise; in evaluation
    the remembered choice holds, so that an exported file runs what was evaluated. Tasks start with neighbouring
    experts, and the gradient of a balance term keeps the experts in use: 0.01 times the squared variation of the
    weights that all tasks together give each expert.

    Args:
        tasks: their names.
        channels: of a token.
        hidden: hidden channels of one expert.
        experts: how many there are.
        chosen: how many run for a task.
    """

    def __init__(self, tasks: Sequence[str], channels: int, hidden: int, experts: int, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen
        self.norm = nn.LayerNorm(channels)
        self.experts = nn.ModuleList([Expert(channels, hidden) for _ in range(experts)])
        self.logits = nn.ParameterDict()
        for number, task in enumerate(tasks):
            start_E = torch.zeros(experts)
            start_E[[(number * chosen + step) % experts for step in range(chosen)]] = 1.0
            self.logits[task] = nn.Parameter(start_E)
            self.register_buffer(f"experts_of_{task}", start_E.topk(chosen).indices.sort().values)
        self._known: dict[str, list[int]] = {}

    def forward(self, x_BNC: Tensor, task: str) -> Tensor:
        logits_E = self.logits[task]
        if self.training:
            logits_E = _Balanced.apply(logits_E, self._balance_gradient(task))
            self.get_buffer(f"experts_of_{task}").copy_(logits_E.detach().topk(self.chosen).indices.sort().values)
            noisy_E = logits_E.detach() + torch.randn_like(logits_E) / len(self.experts)
            own = noisy_E.topk(self.chosen).indices.tolist()
        else:
            own = self.experts_of(task)
        weights_E = logits_E.softmax(0)
        normed_BNC = self.norm(x_BNC)
        for expert in own:
            x_BNC = x_BNC + weights_E[expert] * self.experts[expert](normed_BNC)
        return x_BNC

    def experts_of(self, task: str) -> list[int]:
        """The experts a task runs in evaluation, ascending."""
        # An exporter has no values to read; it traces what the last evaluation, or the call of `eval`, has read.
        if not torch.compiler.is_compiling():
            self._known[task] = self.get_buffer(f"experts_of_{task}").tolist()
        return self._known[task]

    def train(self, mode: bool = True) -> RoutedMlp:
        super().train(mode)
        for task in self.logits:
            self.experts_of(task)
        return self

    def _balance_gradient(self, task: str) -> Tensor:
        """Of 0.01 * variance / mean^2 of the experts' importance, with respect to one task's logits."""
        with torch.enable_grad():
            logits = {name: value.detach().requires_grad_(name == task) for name, value in self.logits.items()}
            importance_E = torch.stack([value.softmax(0) for value in logits.values()]).sum(0)
            variation = importance_E.var(correction=0) / importance_E.mean().square()
            return torch.autograd.grad(0.01 * variation, logits[task])[0]


class _Balanced(torch.autograd.Function):
    """The identity, with a gradient of its own added."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return outer[0] + gradient, None
