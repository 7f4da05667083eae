"""Experts decompose every level of the encoder; each task assembles them by gates of its own and keeps a memory.

Source: Ye and Xu, "TaskExpert: Dynamically Assembling Multi-Task Representations with Memorial Mixture-of-Experts"
(ICCV 2023), section 3: at level l, task t mixes the experts' features and, as one more expert, what it remembers, and
writes the mixture into its memory, `M_l = M_(l-1) + W(sum_k g_k E_k(F_l) + g M_(l-1))`. Here levels go from coarse to
fine, gates see the mean of the level, and each task reads an expert through a 1x1 convolution, so that its memory has a
width of its own. The first memory is weighed by its gate, since there is nothing to remember yet. Every expert is a
group of channels, so that experts shrink one by one; a level's experts are a `SumOf`, so that an arch may run the first
few alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mtnas.forks.sum_of import SumOf
from mtnas.heads.base import conv_bn_relu, resize
from mtnas.heads.joint import JointHead

_EXPERTS = 4


class Gate(nn.Module):
    """One number between 0 and 1 for each image, from the mean of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, 1, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.sigmoid(self.weigh(x_BCHW.mean((2, 3), keepdim=True)))


class Expert(nn.Module):
    """One expert at one level, and what each task takes from it: `{task: gate * read(expert(x))}`."""

    def __init__(self, width: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.body = conv_bn_relu(width, width)
        self.gates = nn.ModuleDict({task: Gate(width) for task in tasks})
        self.reads = nn.ModuleDict({task: nn.Conv2d(width, width, 1) for task in tasks})

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        found_BCHW = self.body(x_BCHW)
        return {task: self.gates[task](x_BCHW) * read(found_BCHW) for task, read in self.reads.items()}


class Memory(nn.Module):
    """One task at one level: adds what it remembers to what it gathered, and writes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.remember = Gate(width)
        self.write = conv_bn_relu(width, width)

    def forward(self, x_BCHW: Tensor, gathered_BCHW: Tensor, memory_BCHW: Tensor | None) -> Tensor:
        if memory_BCHW is None:
            return self.remember(x_BCHW) * self.write(gathered_BCHW)
        rows, columns = x_BCHW.shape[-2:]
        memory_BCHW = resize(memory_BCHW, (rows, columns), "nearest")
        return memory_BCHW + self.write(gathered_BCHW + self.remember(x_BCHW) * memory_BCHW)


class Level(nn.Module):
    """All that happens at one level of the encoder: experts run once, and every task reads them."""

    def __init__(self, channels: int, width: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.lateral = conv_bn_relu(channels, width, kernel=1)
        self.experts = SumOf([Expert(width, tasks) for _ in range(_EXPERTS)])
        self.memory = nn.ModuleDict({task: Memory(width) for task in tasks})

    def forward(self, x_BCHW: Tensor, memories: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x_BCHW = self.lateral(x_BCHW)
        gathered = self.experts(x_BCHW)
        return {task: memory(x_BCHW, gathered[task], memories.get(task)) for task, memory in self.memory.items()}


class TaskExpert(JointHead):
    """Experts and memories at every level, then `convs` 3x3 convolutions and a 1x1 output for each task.

    Args:
        level_channels: channels of the encoder's levels, fine to coarse.
        channels: channels of each task's output.
        width: channels of each expert and of each task's memory.
        convs: 3x3 convolutions of each task at the finest level, at least one.
    """

    def __init__(
        self, level_channels: Sequence[int], channels: Mapping[str, int], width: int = 64, convs: int = 2
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList([Level(level, width, list(channels)) for level in level_channels])
        self.smooth = nn.ModuleDict(
            {task: nn.Sequential(*[conv_bn_relu(width, width) for _ in range(convs)]) for task in channels}
        )
        self.output = nn.ModuleDict({task: nn.Conv2d(width, count, 1) for task, count in channels.items()})

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        memories: dict[str, Tensor] = {}
        for level, x_BCHW in zip(reversed(list(self.levels)), reversed(list(maps)), strict=True):
            memories = level(x_BCHW, memories)
        outputs = {task: self.output[task](smooth(memories[task])) for task, smooth in self.smooth.items()}
        return {task: resize(output_BCHW, size, "bilinear") for task, output_BCHW in outputs.items()}
