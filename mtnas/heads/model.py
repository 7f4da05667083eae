"""An encoder and decoders: `image (B,C,H,W) -> {task: raw output}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class MultiTaskNet(nn.Module):
    """A plain multi-task network; outputs come in the order of `tasks`.

    `active_tasks` names the tasks that are answered; None is all. Any module with an attribute of this name is told the
    wished tasks (`mtnas.elastic.task_subset`): an encoder that routes by task has one and runs only their experts.

    Args:
        encoder: image to feature maps, fine to coarse; or to {task: its maps}, where it routes by task.
        heads: decoders of one task each, by task name.
        joint: the decoder of all other tasks, if there are any; it reads maps that all tasks share.
        tasks: order of the outputs; by default that of `heads`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        heads: Mapping[str, nn.Module],
        joint: nn.Module | None = None,
        tasks: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.joint = joint
        self.tasks = tuple(heads if tasks is None else tasks)
        self.active_tasks: tuple[str, ...] | None = None

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        rows, columns = image_BCHW.shape[-2:]
        maps = self.encoder(image_BCHW)
        of_task = maps if isinstance(maps, Mapping) else dict.fromkeys(self.heads, maps)
        active = [task for task in self.tasks if self.active_tasks is None or task in self.active_tasks]
        alone = [task for task in active if task in self.heads and task in of_task]
        outputs = {task: self.heads[task](of_task[task], (rows, columns)) for task in alone}
        if self.joint is not None and any(task not in self.heads for task in active):
            outputs |= self.joint(maps, (rows, columns))
        return {task: outputs[task] for task in active if task in outputs}
