"""The parts of one step's images: a large batch taken in small portions, whose gradients add up.

Everything but batch-norm's batch statistics comes out as if the batch had been taken at once. Losses are means over
images (or labelled pixels), so a part counts by its number of images. What a balancing method learns from, it must
learn from the whole step:

- weights that do not depend on the step's losses: the method is asked in every part, with the same random numbers, and
  its own gradients add up like all others;
- weights that do (`Balance.weighs_losses`): all losses are found first, by one forward pass of the largest network
  over each part, and the method is asked once;
- weights of gradients: rows add up over the parts, and are weighed at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mtnas.train.balance.base import Balance


@dataclass
class StepParts:
    """Which part of a step is at work; set by the engine, read where losses become gradients.

    Args:
        count: parts of each step.
        index: of this part, from 0.
        share: of this part in the step's images.
        seed: of what all parts draw alike.
        losses: by task, of the whole step, where the balance weighs by them.
    """

    count: int = 1
    index: int = 0
    share: float = 1.0
    seed: int = 0
    losses: Mapping[str, Tensor] | None = None

    @property
    def first(self) -> bool:
        return self.index == 0

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def learn(self, balance: Balance, losses: Mapping[str, Tensor]) -> Tensor:
        """The largest network's total over this part, weighed as the whole step asks for."""
        with self.alike(next(iter(losses.values())).device):
            if self.losses is None:
                return balance.learn(losses)
            valued = {task: with_value(loss, self.losses[task]) for task, loss in losses.items()}
            return balance.learn(valued) if self.first else balance.apply_to(valued)

    def alike(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, every part of the step draws the same random numbers."""
        return seeded(self.seed, device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's default generators start from `seed`; afterwards they go on as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def with_value(loss: Tensor, value: Tensor) -> Tensor:
    """A scalar of this value that sends its gradient to `loss`."""
    return loss + (value - loss).detach()
