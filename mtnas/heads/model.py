"""An encoder and one head per task: `image (B,C,H,W) -> {task: raw output}`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class MultiTaskNet(nn.Module):
    """A plain multi-task network; outputs come in the order of `heads`.

    `active_tasks` names the heads that run; None is all of them. Any module with an attribute of this name is told the
    wished tasks (`mtnas.elastic.task_subset`): an encoder that routes by task has one and runs only their experts.

    Args:
        encoder: image to feature maps, fine to coarse.
        heads: by task name.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.active_tasks: tuple[str, ...] | None = None

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        rows, columns = image_BCHW.shape[-2:]
        maps = self.encoder(image_BCHW)
        active = self.heads if self.active_tasks is None else self.active_tasks
        return {task: head(maps, (rows, columns)) for task, head in self.heads.items() if task in active}
