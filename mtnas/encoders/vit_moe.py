"""A vision transformer whose every second MLP is made of experts that belong to tasks (see `routed`).

The blocks before the first such MLP run once for all tasks, those after it once per task. So one task alone costs what
a dense network of the same size costs, and runs and ships its own experts only; all tasks at once cost about as much as
one dense network each. Where tokens choose (`routed_tokens`), all experts run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.base.tables import lookup
from mtnas.encoders.routed import OwnExperts, RoutedMlp
from mtnas.encoders.settings import inseparable
from mtnas.encoders.table import ROUTINGS, TASK
from mtnas.encoders.vit import Mlp, ViT

_EXPERTS = 16


class TaskRoutedViT(ViT):
    """As `ViT`, but returns maps for each task: `image -> {task: maps}`.

    Args:
        tasks: their names.
        experts: of every routed MLP; 0 = its own. Routing by task has at most `top_k` for each task, which is its own,
            since more would serve nobody.
        top_k: experts that run for a task (or a token); together they have as many hidden channels as one dense MLP.
        routing: a row of `ROUTINGS`.
        shared: blocks before the first routed MLP's; from there on it is every second.
        settings: as for `ViT`.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        experts: int = 0,
        top_k: int = 4,
        routing: str = TASK,
        shared: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        kind = lookup(routing, ROUTINGS, "routing", "model.routing")
        if routing == TASK:
            experts = min(experts or len(tasks) * top_k, len(tasks) * top_k)
            kind = OwnExperts if experts == len(tasks) * top_k else kind
        experts = experts or max(_EXPERTS, top_k)
        if not tasks or not 1 <= top_k <= experts or (routing == TASK and experts % top_k):
            raise JobError(
                "at least one task, and experts that are a multiple of top_k, which is at least 1",
                received=f"{len(tasks)} tasks, {experts} experts, top_k {top_k}",
                where="model.experts",
            )
        self.tasks = tuple(tasks)
        self.active_tasks: tuple[str, ...] | None = None
        #: why no file for some of the tasks is made; empty = it is
        self.inseparable = inseparable(routing)
        number = 0
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for place in range(1, len(stage), 2):
                dense = stage[place]
                if number >= shared and (number - shared) % 2 == 0:
                    assert isinstance(dense, Mlp)
                    channels, hidden = dense.reduce.out_features, dense.expand.out_features
                    stage[place] = kind(self.tasks, channels, hidden // top_k, experts, top_k)
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
