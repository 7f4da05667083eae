"""An encoder and one head per task: `image (B,C,H,W) -> {task: raw output}`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class MultiTaskNet(nn.Module):
    """A plain multi-task network; outputs come in the order of `heads`.

    Args:
        encoder: image to feature maps, fine to coarse; or to {task: its maps}, where it routes by task.
        heads: by task name.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        rows, columns = image_BCHW.shape[-2:]
        maps = self.encoder(image_BCHW)
        of_task = maps if isinstance(maps, Mapping) else dict.fromkeys(self.heads, maps)
        return {task: head(of_task[task], (rows, columns)) for task, head in self.heads.items() if task in of_task}
