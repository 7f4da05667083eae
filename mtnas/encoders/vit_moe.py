"""A vision transformer whose every second MLP is a choice of experts per task (see `routed`).

The blocks before the first such MLP run once for all tasks, those after it once per task. So one task alone costs what
a dense network of the same size costs, and runs and ships its own experts only; all tasks at once cost about as much as
one dense network each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.encoders.routed import RoutedMlp
from mtnas.encoders.vit import Mlp, ViT


class TaskRoutedViT(ViT):
    """As `ViT`, but returns maps for each task: `image -> {task: maps}`.

    Args:
        tasks: their names.
        experts: of every routed MLP.
        chosen: experts that a task runs; together they have as many hidden channels as one dense MLP.
        settings: as for `ViT`.
    """

    def __init__(self, tasks: Sequence[str], *, experts: int = 16, chosen: int = 4, **settings: Any) -> None:
        super().__init__(**settings)
        if not tasks or not 1 <= chosen <= experts:
            raise JobError(
                "at least one task, and at most as many experts of a task as there are",
                received=f"{len(tasks)} tasks, {chosen} of {experts} experts",
                where="TaskRoutedViT",
            )
        self.tasks = tuple(tasks)
        self.active_tasks: tuple[str, ...] | None = None
        number = 0
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for place in range(1, len(stage), 2):
                dense = stage[place]
                if number % 2:
                    assert isinstance(dense, Mlp)
                    channels, hidden = dense.reduce.out_features, dense.expand.out_features
                    stage[place] = RoutedMlp(self.tasks, channels, hidden // chosen, experts, chosen)
                number += 1

    def forward(self, image_BCHW: Tensor) -> dict[str, tuple[Tensor, ...]]:  # type: ignore[override]
        *fine, x_BCHW = self.stem(image_BCHW)
        size = x_BCHW.shape[-2:]
        active = self.tasks if self.active_tasks is None else self.active_tasks
        shared: Tensor | None = (x_BCHW + self.position(x_BCHW)).flatten(2).transpose(1, 2)
        tokens: dict[str, Tensor] = {}
        maps: dict[str, list[Tensor]] = {task: list(fine) for task in active}
        for number, stage in enumerate(self.stages):
            for part in stage:  # type: ignore[attr-defined]
                if isinstance(part, RoutedMlp):
                    tokens = {task: part(tokens[task] if shared is None else shared, task) for task in active}
                    shared = None
                elif shared is not None:
                    shared = part(shared)
                else:
                    tokens = {task: part(x_BNC) for task, x_BNC in tokens.items()}
            if number >= len(fine):
                for task in active:
                    x_BNC = tokens[task] if shared is None else shared
                    maps[task].append(x_BNC.transpose(1, 2).unflatten(2, size))
        return {task: tuple(found) for task, found in maps.items()}
