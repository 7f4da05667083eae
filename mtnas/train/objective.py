"""What one step minimises: the seam between the engine in `fit.py` and the two kinds of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mtnas.data.base import Batch
from mtnas.elastic.sort import Along
from mtnas.train.balance.base import Balance
from mtnas.train.parts import StepParts
from mtnas.train.precision import Mode

T = TypeVar("T")


@dataclass(frozen=True)
class StepBatch:
    """One batch on the training device.

    Args:
        step: its number; everything random in the step is derived from it.
        image_BCHW: normalised images in the mode's layout.
        targets: by task.
        mode: how the arithmetic runs.
        done: share of the training's steps before this one.
    """

    step: int
    image_BCHW: Tensor
    targets: Mapping[str, Tensor]
    mode: Mode
    done: float = 1.0

    def split(self, count: int) -> Iterator[StepBatch]:
        """Consecutive parts, as equal as can be."""
        if count == 1:
            yield self
            return
        images = self.image_BCHW.tensor_split(count)
        targets = {name: target.tensor_split(count) for name, target in self.targets.items()}
        for k, image_BCHW in enumerate(images):
            yield replace(self, image_BCHW=image_BCHW, targets={name: each[k] for name, each in targets.items()})


class Objective(Protocol):
    """Something that can put gradients on its module."""

    @property
    def module(self) -> nn.Module:
        """The weights that are trained."""
        ...

    @property
    def balance(self) -> Balance: ...

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        """What has a state beside the network, by name: the balance, and what else is learned and then thrown away."""
        ...

    @property
    def parts(self) -> StepParts:
        """Which part of a step is at work; the same object all the time, set by the engine."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """JSON values that name what is trained, beside the settings and the data."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The trained tensors, as they are stored."""
        ...

    def accumulate(self, batch: StepBatch) -> dict[str, float]:
        """Forward and backward of one part of a step; returns the losses per task, and `total`."""
        ...

    def losses(self, batch: StepBatch) -> dict[str, Tensor]:
        """What the balance learns from, by task, with the weights as they are now; no statistics change."""
        ...


class Moment(NamedTuple):
    """Where a training is: before step 0, 1, ... of `total`, `per_epoch` of them in an epoch."""

    step: int
    per_epoch: int
    total: int


#: Called before each step, with what goes along with the network's tensors; returns fields for the curves.
Before = Callable[[Moment, Along], dict[str, float]]


def replayed(function: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """The function, drawing the random numbers that would come now, whenever it is called; later draws stay as is."""
    cuda = device.type == "cuda"
    state = torch.get_rng_state()
    cuda_state = torch.cuda.get_rng_state(device) if cuda else None

    def again() -> T:
        with torch.random.fork_rng(devices=[device] if cuda else []):
            torch.set_rng_state(state)
            if cuda_state is not None:
                torch.cuda.set_rng_state(cuda_state, device)
            return function()

    return again


def place(step: int, batch: Batch, mode: Mode, device: torch.device, done: float = 0.0) -> StepBatch:
    """A batch on the training device, in the mode's layout."""
    image_BCHW, targets = batch
    moved = {name: target.to(device) for name, target in targets.items()}
    return StepBatch(step, mode.image(image_BCHW, device), moved, mode, done)


def device_of(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def as_floats(losses: Mapping[str, Tensor], total: Tensor) -> dict[str, float]:
    """Losses as numbers, read from the device at once."""
    values = torch.stack([loss.detach().float() for loss in (*losses.values(), total)]).tolist()
    return dict(zip([*losses, "total"], values, strict=True))
