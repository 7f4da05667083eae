"""The contract of a balancing method.

Two kinds. Most weigh losses: they cost nothing, and what they learn they learn from the largest network alone, one
weight per task, which the other sub-networks of the step use as it is. `GradientBalance` (`gradient.py`) weighs the
gradients that the tasks send to shared parameters; that takes one backward pass for each task and sub-network.

A loss of exactly zero means that no image of the batch has a label of that task (`Task.loss`); nothing is learned
from it. Weights add up to the number of tasks wherever a method leaves their sum open, so that methods differ in what
they prefer, and not in the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class Balance(nn.Module):
    """Weighs the tasks' losses. State lives in parameters and buffers, so that checkpoints hold it.

    Args:
        weights: fixed weight of each task, by name.
    """

    #: whether a step's weights follow from its losses, so that all must be known before the first backward pass
    weighs_losses: ClassVar[bool] = False
    #: whether `look` wants the largest network's losses once more, after the step (one more forward pass)
    looks_back: ClassVar[bool] = False
    #: whether `watch` wants the finished gradients of the shared parameters
    watches: ClassVar[bool] = False

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.tasks = tuple(weights)
        self.fixed_T: Tensor
        self.register_buffer("fixed_T", torch.tensor([weights[task] for task in self.tasks]), persistent=False)

    def stack(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Losses times their fixed weights, as one vector."""
        return self.plain(losses) * self.fixed_T

    def plain(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Losses as one vector."""
        return torch.stack([losses[task] for task in self.tasks])

    def each(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted losses of the tasks that this step trains, with the weights as they are."""
        raise NotImplementedError

    def learn(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The largest network's total; gradients reach the method's own parameters."""
        return self.apply_to(losses)

    def apply_to(self, losses: Mapping[str, Tensor]) -> Tensor:
        """A sub-network's total with the weights as they are."""
        return torch.stack(list(self.each(losses).values())).sum()

    def look(self, losses: Mapping[str, Tensor]) -> None:
        """Take the largest network's losses on the same batch after the step; called where `looks_back` is true."""

    def watch(self, gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of the shared parameters before the step; called where `watches` is true."""

    def end_epoch(self) -> None:
        """Called after the last step of each epoch."""

    def moved(self) -> None:
        """Called when channels changed places: what was kept of gradients, entry by entry, means nothing any more."""
