"""One task per step, chosen by a bandit that rewards tasks whose gradients help the others.

Source: Wang, Yu, "Efficient Training of Multi-task Combinatorial Neural Solver with Multi-armed Bandits",
and its code: Exp3 over tasks; the influence of training j on i is the cosine of i's latest shared gradient and j's
present one, summed over the steps of a window and divided by how often j was trained; the reward of j is the sigmoid
of its influences, here of their mean, which does not saturate with the number of tasks.

Only the chosen task is propagated back, in every sub-network of the step, so a step is cheaper than with fixed weights.
Its loss counts as many times as there are tasks: when all tasks are chosen equally often, the mean of the gradients is
that of fixed weights. Gradients are remembered as sketches of a few hundred numbers, whose inner products are those of
the gradients but for a small random error (Charikar, Chen, Farach-Colton, "Finding Frequent Items in Data Streams").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mtnas.train.balance.base import Balance

SKETCH = 512
EXPLORE = 0.2
#: steps in turn before the bandit chooses, per task
ROUNDS = 4


class Bandit(Balance):
    """Keeps a log weight, a sketch and counts for each task; draws from torch's default generator.

    Choices are made among the tasks that have labels in the batch.
    """

    weighs_losses: ClassVar[bool] = True
    watches: ClassVar[bool] = True

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        tasks = len(self.tasks)
        self.log_T: Tensor
        self.latest_TD: Tensor
        self.influence_TT: Tensor
        self.window_T: Tensor
        self.trained_T: Tensor
        self.chosen: Tensor
        self.register_buffer("log_T", torch.zeros(tasks))
        self.register_buffer("latest_TD", torch.zeros(tasks, SKETCH))
        self.register_buffer("influence_TT", torch.zeros(tasks, tasks))
        self.register_buffer("window_T", torch.zeros(tasks))
        self.register_buffer("trained_T", torch.zeros(tasks))
        self.register_buffer("chosen", torch.tensor(-1))

    def chances(self) -> Tensor:
        """The probability of each task."""
        return (1 - EXPLORE) * torch.softmax(self.log_T, 0) + EXPLORE / len(self.tasks)

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        chosen = int(self.chosen)
        tasks = self.tasks if chosen < 0 else (self.tasks[chosen],)
        factor = 1.0 if chosen < 0 else float(len(self.tasks))
        return {task: losses[task] * self.fixed_T[self.tasks.index(task)] * factor for task in tasks}

    @torch.no_grad()
    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        labelled_T = self.plain(losses).detach() != 0
        if not labelled_T.any():
            labelled_T = torch.ones_like(labelled_T)
        if self.trained_T[labelled_T].min() < ROUNDS:
            turn_T = torch.where(labelled_T, self.trained_T, torch.inf)
            self.chosen.copy_(turn_T.argmin())
        else:
            self.chosen.copy_(torch.multinomial(self.chances() * labelled_T, 1)[0])
        self.trained_T[self.chosen] += 1
        with torch.enable_grad():
            return self.apply_to(losses)

    @torch.no_grad()
    def watch(self, gradients: Sequence[Tensor | None]) -> None:
        chosen = int(self.chosen)
        sketch_D = sketch(gradients, self.latest_TD)
        self.latest_TD[chosen] = sketch_D / sketch_D.norm().clamp_min(1e-30)
        self.influence_TT[:, chosen] += self.latest_TD @ self.latest_TD[chosen]
        self.window_T[chosen] += 1
        if self.window_T.sum() >= len(self.tasks):
            self._reward()

    def moved(self) -> None:
        self.latest_TD.zero_()  # no influence is counted until tasks are trained again

    def _reward(self) -> None:
        """Exp3 with the rewards of the window; then a new window."""
        tasks = len(self.tasks)
        mean_T = self.influence_TT.sum(0) / self.window_T.clamp_min(1) / tasks
        reward_T = torch.where(self.window_T > 0, torch.sigmoid(mean_T), 0.0)
        self.log_T += EXPLORE * reward_T / (self.chances() * tasks)
        self.log_T -= self.log_T.max().clone()
        self.influence_TT.zero_()
        self.window_T.zero_()


def sketch(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """(D,) sums of all numbers with random signs, in `SKETCH` buckets; the signs are the same in every call."""
    generator = torch.Generator().manual_seed(0)
    out_D = torch.zeros_like(like[0])
    for gradient in gradients:
        if gradient is None:
            generator.manual_seed(generator.initial_seed() + 1)
            continue
        flat_N = gradient.detach().reshape(-1)
        sign_N = (torch.randint(0, 2, flat_N.shape, generator=generator, dtype=torch.int8) * 2 - 1).to(flat_N)
        padded_N = torch.nn.functional.pad(flat_N * sign_N, (0, -len(flat_N) % len(out_D)))
        out_D += padded_N.reshape(-1, len(out_D)).sum(0)
        generator.manual_seed(generator.initial_seed() + 1)
    return out_D
