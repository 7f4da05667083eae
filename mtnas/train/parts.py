"""The parts of one step's images: portions one after the other, or side by side in several processes.

Their gradients add up. Everything but batch-norm's batch statistics comes out as if the batch had been taken at once.
Losses are means over images (or labelled pixels), so a part counts by its number of images. What a balancing method
learns from, it must learn from the whole step:

- weights that do not depend on the step's losses: the method is asked in every portion, with the same random numbers,
  and its own gradients add up like all others;
- weights that do (`Balance.weighs_losses`): where there are several portions, all losses are found first, by one
  forward pass of the largest network over each, and the method is asked once;
- weights of gradients: rows add up over all parts, and are weighed at the end.

Processes give the method the mean of their losses, each with its own gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.train.balance.base import Balance
from mtnas.train.ranks import Ranks


@dataclass
class StepParts:
    """Which part of a step is at work; set by the engine, read where losses become gradients.

    Args:
        count: portions of each step.
        index: of this portion, from 0.
        share: of this part in the images of the step, of all processes.
        seed: of what all parts draw alike.
        losses: by task, of the whole step, where the balance weighs by them.
        ranks: the processes that train together.
        trained: all parameters that get gradients, in the same order in all processes.
    """

    count: int = 1
    index: int = 0
    share: float = 1.0
    seed: int = 0
    losses: Mapping[str, Tensor] | None = None
    ranks: Ranks = Ranks()
    trained: Sequence[nn.Parameter] = ()

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def learn(self, balance: Balance, losses: Mapping[str, Tensor]) -> Tensor:
        """The largest network's total over this part, weighed as the whole step asks for."""
        with self.alike(next(iter(losses.values())).device):
            if self.losses is not None:
                valued = with_values(losses, self.losses)
                return balance.learn(valued) if self.first else balance.apply_to(valued)
            return balance.learn(with_values(losses, self._mean(losses)) if self.ranks.count > 1 else losses)

    def add_everywhere(self, rows: Sequence[tuple[list[Tensor | None], Sequence[nn.Parameter]]]) -> None:
        """Sum the gradients of all processes in one message: those on their parameters, and further rows in place.

        Args:
            rows: gradients that are kept apart, each with its parameters.
        """
        if self.ranks.count == 1:
            return
        mine = [gradient for row, _ in rows for gradient in row]
        like = [parameter for _, parameters in rows for parameter in parameters]
        sums = iter(self.ranks.add([*mine, *(p.grad for p in self.trained)], [*like, *self.trained]))
        for row, _ in rows:
            row[:] = [next(sums) for _ in row]
        for parameter in self.trained:
            parameter.grad = next(sums)

    def _mean(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Over this portion of all processes."""
        share = torch.tensor(self.share)
        sums = self.ranks.add_scalars({**{task: loss * share for task, loss in losses.items()}, "": share})
        whole = sums.pop("")
        return {task: value / whole for task, value in sums.items()}

    def alike(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, every part of the step draws the same random numbers."""
        return seeded(self.seed, device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's default generators start from `seed`; afterwards they go on as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class _Valued(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def with_values(losses: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of exactly these values that send their gradients to `losses`."""
    return {task: _Valued.apply(loss, values[task]) for task, loss in losses.items()}
