"""The contract of a task. Shape letters: B = batch, C = channels, K = classes, H, W = pixels.

Outputs are raw (logits, metres, unnormalised vectors); the activation belongs to the task, so training, scoring and
export apply the same one, once. Losses and meters compute in float32 or wider, whatever the network runs in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from mtnas.base.errors import JobError
from mtnas.base.tables import lookup
from mtnas.tasks.spec import IGNORE, UNLABELLED, Metric, TaskSpec
from mtnas.tasks.table import TASKS

__all__ = ["IGNORE", "UNLABELLED", "Meter", "Metric", "Task", "TaskSpec", "make_task", "masked_mean"]


class Meter(ABC):
    """Collects statistics over a split; the result does not depend on how the split was cut into batches."""

    #: how many scored pixels or images came so far
    count: int = 0

    @abstractmethod
    def update(self, output: Tensor, target: Tensor) -> None:
        """Add one batch of raw outputs and their targets."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """One value for each of the task's metrics; NaN when nothing was scored."""

    def details(self) -> dict[str, float]:
        """Further numbers that are no measure of quality by themselves, such as counts and values per class."""
        return {"count": float(self.count)}


class Task(ABC):
    """One output: how it is trained, scored and read."""

    type: ClassVar[str]
    #: all metrics, the primary one first
    metrics: tuple[Metric, ...]
    dense: ClassVar[bool] = True
    activation: ClassVar[str] = "identity"
    #: required channels, or None when any number will do
    fixed_channels: ClassVar[int | None] = None

    def __init__(self, spec: TaskSpec) -> None:
        if self.fixed_channels is not None and spec.channels != self.fixed_channels:
            raise JobError(
                f"{self.fixed_channels} channel(s) for a task of type {self.type}",
                received=str(spec.channels),
                where=f"tasks.{spec.name}",
            )
        self.spec = spec

    @property
    def primary(self) -> Metric:
        return self.metrics[0]

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar; 0 with a gradient of 0 when no pixel is valid. Without `spec.weight`."""

    @abstractmethod
    def distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar that is smallest when the student says what the teacher says; the teacher gets no gradient."""

    @abstractmethod
    def meter(self) -> Meter:
        """A new, empty meter."""

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """The answer in the task's own unit: class, metres, unit vectors, probability."""


def make_task(spec: TaskSpec) -> Task:
    """The task of a row of `TASKS`."""
    return lookup(spec.type, TASKS, "task type", where=f"tasks.{spec.name}.type")(spec)


def masked_mean(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean that is 0, with a gradient, when all weights are 0. The weight broadcasts over channels."""
    per_channel = value.numel() / max(weight.numel(), 1)
    return (value * weight).sum() / (weight.sum() * per_channel).clamp_min(1e-12)


def sums_by_image(values: np.ndarray) -> list[float]:
    """Float64 sum of each image: the same for an image whichever batch it came in."""
    rows = np.ascontiguousarray(values, dtype=np.float64).reshape(len(values), -1)
    return [float(row.sum()) for row in rows]
