"""Scores while training goes on: the largest and the smallest network on a few images of the select split.

`select` is there for choosing, and what is seen here may lead to a choice (to stop, to change a setting); `report` is
never read. Watching changes nothing: weights, statistics in the network and random numbers stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mtnas.data.base import Split
from mtnas.elastic.model import ElasticModel
from mtnas.space.arch import Arch
from mtnas.tasks.base import Task

#: by network, then by task: the task's primary metric
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Watch:
    """Looks at an elastic network in training.

    Args:
        elastic: the network; it has calibration images.
        tasks: by output name.
        split: whose first images are scored.
        images: how many.
        epochs: between two looks.
        batch_size: images per forward pass.
    """

    elastic: ElasticModel
    tasks: Mapping[str, Task]
    split: Split
    images: int
    epochs: int
    batch_size: int = 32

    def __call__(self) -> Scores:
        """Primary metrics of both networks, batch-norm statistics estimated for each.

        A task without a label among the images is left out.
        """
        space = self.elastic.space
        buffers = {name: buffer.clone() for name, buffer in self.elastic.model.named_buffers()}
        try:
            return {"largest": self._score(space.largest), "smallest": self._score(space.smallest)}
        finally:
            for name, buffer in self.elastic.model.named_buffers():
                buffer.copy_(buffers[name])
            self.elastic.weights_changed()

    @torch.no_grad()
    def _score(self, arch: Arch) -> dict[str, float]:
        selection = self.elastic.selection(arch)
        statistics = self.elastic.statistics(selection)
        meters = {name: task.meter() for name, task in self.tasks.items()}
        for image_BCHW, targets in self.split.batches(self.batch_size, self.images):
            outputs = self.elastic.run(image_BCHW, selection, statistics=statistics)
            for name, meter in meters.items():
                meter.update(outputs[name], targets[name])
        values = {name: meter.compute()[self.tasks[name].primary.name] for name, meter in meters.items()}
        return {name: value for name, value in values.items() if math.isfinite(value)}


def scores_text(scores: Mapping[str, float], most: int = 6) -> str:
    """One line for a progress bar; long lists are cut."""
    shown = [f"{name} {value:.3g}" for name, value in list(scores.items())[:most]]
    return ", ".join(shown) + (" ..." if len(scores) > most else "")
