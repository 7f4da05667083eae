"""MLPs of experts that belong to tasks: task-level routing, whatever the token.

Sources: Liang, Fan et al., "M3ViT: Mixture-of-Experts Vision Transformer for Efficient Multi-task Learning with
Model-Accelerator Co-design" (experts in every second block, together the work of one dense MLP); Gupta et al.,
"Sparsely Activated Mixture-of-Experts are Robust Multi-Task Learners" (gates that know the task alone). Which experts a
task has is dealt out when the network is made and never changes: so they can be cut out, and the graph that was drawn
before training holds after it. How much each of them counts is learned.
Shape letters: B = batch, N = tokens, C = channels, K = experts of a task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtnas.forks.sum_of import SumOf


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
    """`x + mixed(norm(x), task)`: what is mixed depends on the task. Subclasses say how.

    All are constructed with `(tasks, channels, hidden, experts, top_k)`: names; channels of a token; hidden channels of
    one expert; how many experts there are; how many run for a task.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_BNC: Tensor, task: str) -> Tensor:
        return x_BNC + self.mixed(self.norm(x_BNC), task)

    def mixed(self, normed_BNC: Tensor, task: str) -> Tensor:
        raise NotImplementedError

    def experts_of(self, task: str) -> list[int]:
        """Numbers of the experts that a task runs in evaluation, ascending."""
        raise NotImplementedError


class WeighedExpert(Expert):
    """The expert of one rank among those of its task; weighs its result by the task's gate for that rank."""

    def __init__(self, channels: int, hidden: int, rank: int) -> None:
        super().__init__(channels, hidden)
        self.rank = rank

    def forward(self, x_BNC: Tensor, weights_K: Tensor) -> Tensor:  # type: ignore[override]
        return weights_K[self.rank] * super().forward(x_BNC)


class OwnExperts(RoutedMlp):
    """Every task has experts of its own: `sum over its k of softmax(logits)_k * expert_k(x)`.

    They are a `SumOf`, so that an arch may run a task's first few alone (`experts` in the rules of the space). With one
    expert per task this is a plain MLP per task.
    """

    def __init__(self, tasks: Sequence[str], channels: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__(channels)
        assert experts == len(tasks) * top_k
        self.tasks, self.top_k = tuple(tasks), top_k
        self.logits = nn.ParameterDict({task: torch.zeros(top_k) for task in tasks})
        self.own = nn.ModuleDict(
            {task: SumOf([WeighedExpert(channels, hidden, rank) for rank in range(top_k)]) for task in tasks}
        )

    def mixed(self, normed_BNC: Tensor, task: str) -> Tensor:
        mixed_BNC: Tensor = self.own[task](normed_BNC, self.logits[task].softmax(0))
        return mixed_BNC

    def experts_of(self, task: str) -> list[int]:
        first = self.tasks.index(task) * self.top_k
        return list(range(first, first + self.top_k))


class SharedExperts(RoutedMlp):
    """Fewer experts than tasks could have of their own: several tasks run the same ones, each with weights of its own.

    An expert that another task needs cannot be left out, so that how many a task runs is no choice here.
    """

    def __init__(self, tasks: Sequence[str], channels: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__(channels)
        self.logits = nn.ParameterDict({task: torch.zeros(top_k) for task in tasks})
        self.experts = nn.ModuleList([Expert(channels, hidden) for _ in range(experts)])
        self.dealt = dict(zip(tasks, deal(len(tasks), experts, top_k), strict=True))

    def mixed(self, normed_BNC: Tensor, task: str) -> Tensor:
        weights_K = self.logits[task].softmax(0)
        found = [weights_K[rank] * self.experts[number](normed_BNC) for rank, number in enumerate(self.dealt[task])]
        return sum(found[1:], found[0])

    def experts_of(self, task: str) -> list[int]:
        return sorted(self.dealt[task])


def deal(tasks: int, experts: int, top_k: int) -> list[tuple[int, ...]]:
    """The experts of each task, in the order of their ranks: each rank has `experts / top_k` of its own.

    All experts of a rank serve equally many tasks, give or take one. With two ranks or more, tasks have all their
    experts in common only where there are more tasks than the square of that number.
    """
    each = experts // top_k
    return [
        tuple(rank * each + (task + rank * (task // each)) % each for rank in range(top_k)) for task in range(tasks)
    ]
