"""Exponential moving average of the weights: the network that is delivered has seen many steps, not only the last.

Decay in step t (1, 2, ...) is min(decay, (1 + t) / (10 + t)), so that the first steps do not linger. Source: the
warm-up of TensorFlow's `ExponentialMovingAverage` (its `num_updates`); Polyak, Juditsky, "Acceleration of Stochastic
Approximation by Averaging", for the idea.

Parameters only: buffers such as batch-norm statistics belong to one set of weights and one width, and are estimated
anew for the averages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of a module's parameters, by name; starts at their present values.

    Args:
        module: the network that is trained.
        decay: share of the old average in the new one, below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = dict(module.named_parameters())
        self.tensors = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        share = 1.0 - min(self.decay, (1 + step) / (10 + step))
        for name, average in self.tensors.items():
            average.lerp_(self.parameters[name], share)

    @torch.no_grad()
    def deliver(self) -> None:
        """Replace the module's parameters by their averages."""
        for name, average in self.tensors.items():
            self.parameters[name].copy_(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the module has the averages; afterwards its own weights again."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.deliver()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, own in kept.items():
                    self.parameters[name].copy_(own)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over stored averages, keeping memory layouts."""
        for name, average in self.tensors.items():
            average.copy_(state[name])
