"""What every head offers, and how maps are resized. Shape letters: B = batch, C = channels, H, W = rows, columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Module):
    """Base class: one task's decoder.

    Subclasses are constructed with `(level_channels, channels, width, convs)`: channels of the encoder's levels, fine
    to coarse; channels of the output; hidden channels; hidden convolutions. `reads` are places among the levels, from
    the end where negative; empty = all.
    """

    reads: tuple[int, ...] = ()

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Raw output from the encoder's maps, fine to coarse; `size` is the image's (H, W)."""
        raise NotImplementedError


def conv_bn_relu(channels_in: int, channels_out: int, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution without bias, the batch-norm that folds into it, and ReLU."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def resize(x_BCHW: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize to `size`, by a whole factor where there is one.

    A factor is exported as a constant (1, 1, f, f); a size would be exported together with the channel count, which
    must stay free.
    """
    height, width = x_BCHW.shape[-2:]
    if (height, width) == tuple(size):
        return x_BCHW
    align = False if mode == "bilinear" else None
    if size[0] % height == 0 and size[1] % width == 0:
        factors = (float(size[0] // height), float(size[1] // width))
        return F.interpolate(x_BCHW, scale_factor=factors, mode=mode, align_corners=align)
    return F.interpolate(x_BCHW, size=size, mode=mode, align_corners=align)
