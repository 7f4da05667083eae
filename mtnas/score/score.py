"""Run a network over a split and read every task's meter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mtnas.base.errors import DataError, ModelError
from mtnas.base.progress import Progress, Silent
from mtnas.data.base import Split
from mtnas.tasks.base import Meter, Task

Forward = Callable[[Tensor], Mapping[str, Tensor]]


def score(
    forward: Forward,
    tasks: Mapping[str, Task],
    split: Split,
    *,
    limit: int | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Every metric of every task over a split: `{task: {metric: value}}`.

    Args:
        forward: image batch to raw outputs by task name. It must already be in evaluation mode; the images come on
            the CPU, and the outputs may lie on any device.
        tasks: what to score; each must be an output of the network and a target of the split.
        split: the images and targets, read in order.
        limit: only the first so many images.
        batch_size: images per call of `forward`; meters do not depend on it.
        progress: shows a bar over the images.
    """
    total = min(len(split), limit if limit is not None else len(split))
    meters = {name: task.meter() for name, task in tasks.items()}
    with torch.inference_mode(), _bar(progress or Silent(), f"score on {split.name}", total) as bar:
        for image_BCHW, targets in split.batches(batch_size, limit):
            outputs = forward(image_BCHW)
            for name, meter in meters.items():
                output = _checked(name, outputs, targets)
                meter.update(output, targets[name].to(output.device))
            bar.advance(len(image_BCHW))
    return {name: _computed(name, meter, split) for name, meter in meters.items()}


def primary(scores: Mapping[str, Mapping[str, float]], tasks: Mapping[str, Task]) -> dict[str, float]:
    """The headline value of each task."""
    return {name: scores[name][task.primary.name] for name, task in tasks.items()}


def _bar(progress: Progress, title: str, total: int) -> AbstractContextManager:
    return progress.task(title, total)


def _checked(name: str, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """The output of a task, or an error naming what is wrong with it."""
    if name not in targets:
        raise DataError("a target for every task", received=", ".join(targets), where=f"task {name}")
    if name not in outputs:
        raise ModelError("an output for every task", received=", ".join(outputs), where=f"task {name}")
    output, target = outputs[name], targets[name]
    if output.shape[0] != target.shape[0] or (output.ndim == 4 and output.shape[2:] != target.shape[-2:]):
        raise ModelError(
            f"an output for targets of shape {tuple(target.shape)}",
            received=str(tuple(output.shape)),
            where=f"task {name}",
            cure="dense tasks answer at the input's resolution, image-level tasks with (batch, classes)",
        )
    if not bool(torch.isfinite(output).all()):
        raise ModelError("finite outputs", received="NaN or infinity", where=f"task {name}")
    return output


def _computed(name: str, meter: Meter, split: Split) -> dict[str, float]:
    values = meter.compute()
    bad = [metric for metric, value in values.items() if not math.isfinite(value)]
    if bad:
        raise DataError(
            f"something to score for {', '.join(bad)}",
            received=f"{meter.count} valid labels",
            where=f"task {name}, split {split.name}",
            cure="use more images of this split",
        )
    return values
