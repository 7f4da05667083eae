"""Task-level routing that is learned: in training a task's gate tries its experts, in evaluation its choice holds.

The gate is a softmax over all experts of which the largest k are used as they are, with noise in training only
(Riquelme et al., "Scaling Vision with Sparse Mixture of Experts", section 2.2; as in M3ViT, see `routed`), but here the
gate knows the task alone, no token. For training in plain torch: an elastic model, and a graph drawn from it, hold the
choice that the network was made elastic with.
Shape letters: B = batch, N = tokens, C = channels, E = experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtnas.encoders.balanced import Balanced, importance_gradient
from mtnas.encoders.routed import Expert, RoutedMlp


class LearnedExperts(RoutedMlp):
    """`sum of softmax(logits)_e * expert_e(x)` over the largest k of a task.

    In training every pass chooses anew, by logits with noise, and remembers the choice without noise; in evaluation the
    remembered choice holds, so that an exported file runs what was evaluated. Tasks start with neighbouring experts,
    and the gradient of a balance term keeps the experts in use: 0.01 times the squared variation of the weights that
    all tasks together give each expert. Only `train()` lets it choose; a layer that is merely told it is training, as
    in an elastic model, keeps its experts.
    """

    def __init__(self, tasks: Sequence[str], channels: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__(channels)
        self.top_k, self.choosing = top_k, True
        self.experts = nn.ModuleList([Expert(channels, hidden) for _ in range(experts)])
        self.logits = nn.ParameterDict()
        for number, task in enumerate(tasks):
            start_E = torch.zeros(experts)
            start_E[[(number * top_k + step) % experts for step in range(top_k)]] = 1.0
            self.logits[task] = nn.Parameter(start_E)
            self.register_buffer(f"experts_of_{task}", start_E.topk(top_k).indices.sort().values)
        self._known: dict[str, list[int]] = {}

    def mixed(self, normed_BNC: Tensor, task: str) -> Tensor:
        logits_E = self.logits[task]
        if self.choosing:
            logits_E = Balanced.apply(logits_E, self._balance_gradient(task))
            self.get_buffer(f"experts_of_{task}").copy_(logits_E.detach().topk(self.top_k).indices.sort().values)
            noisy_E = logits_E.detach() + torch.randn_like(logits_E) / len(self.experts)
            own = noisy_E.topk(self.top_k).indices.tolist()
        else:
            own = self.experts_of(task)
        weights_E = logits_E.softmax(0)
        found = [weights_E[number] * self.experts[number](normed_BNC) for number in own]
        return sum(found[1:], found[0])

    def experts_of(self, task: str) -> list[int]:
        # An exporter has no values to read; it traces what the last evaluation, or the call of `eval`, has read.
        if not torch.compiler.is_compiling():
            self._known[task] = self.get_buffer(f"experts_of_{task}").tolist()
        return self._known[task]

    def train(self, mode: bool = True) -> LearnedExperts:
        super().train(mode)
        self.choosing = mode
        for task in self.logits:
            self.experts_of(task)
        return self

    def _balance_gradient(self, task: str) -> Tensor:
        """With respect to one task's logits."""
        with torch.enable_grad():
            logits = {name: value.detach().requires_grad_(name == task) for name, value in self.logits.items()}
            importance_E = torch.stack([value.softmax(0) for value in logits.values()]).sum(0)
            return importance_gradient(importance_E, logits[task])
