"""What every joint decoder offers: one decoder for several dense tasks, which may look at each other's features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.heads.base import conv_bn_relu, resize


class JointHead(nn.Module):
    """Base class: the decoder of several tasks.

    Subclasses are constructed with `(level_channels, channels, width, convs)`: channels of the encoder's levels, fine
    to coarse; channels of each task's output, by task; hidden channels; hidden convolutions of each task.
    """

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Raw outputs by task from the encoder's maps, fine to coarse; `size` is the image's (H, W)."""
        raise NotImplementedError


class TopDown(nn.Module):
    """Lateral 1x1 convolutions summed from coarse to fine, as in a feature pyramid; the finest map."""

    def __init__(self, level_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([conv_bn_relu(level, width, kernel=1) for level in level_channels])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        laterals = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        x_BCHW = laterals.pop()
        for finer_BCHW in reversed(laterals):
            rows, columns = finer_BCHW.shape[-2:]
            x_BCHW = finer_BCHW + resize(x_BCHW, (rows, columns), "nearest")
        return x_BCHW
