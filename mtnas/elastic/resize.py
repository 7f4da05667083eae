"""Running a network at a smaller input size, behind a resize of the image and before one of its outputs.

The image is averaged over whole blocks of pixels as far as the factor goes, the rest is bilinear; outputs are enlarged
bilinearly. Both are plain operators with one meaning everywhere: a box filter, and linear interpolation between pixel
centres (half-pixel coordinates, no antialiasing). So torch, ONNX and every runtime compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.groups import Size, size_text


@dataclass(frozen=True)
class Resizing:
    """From the full input size to a smaller one and back. Images of other sizes are resized by the same share.

    Args:
        full: height and width in pixels of the images.
        small: height and width in pixels that the network runs at.
        dense: the outputs that follow the image's size.
    """

    full: Size
    small: Size
    dense: tuple[str, ...]

    def shrink(self, image_BCHW: Tensor) -> Tensor:
        """The image at the smaller size; raises `ModelError` where that is no whole number of pixels."""
        size = _size(image_BCHW)
        target = _share(size, self.small, self.full)
        blocks = [n // m if n % (n // m) == 0 else 1 for n, m in zip(size, target, strict=True)]
        if max(blocks) > 1:
            image_BCHW = F.avg_pool2d(image_BCHW, blocks)
        return _bilinear(image_BCHW, target)

    def enlarge(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs as large as those of the network at the full size."""
        return {
            task: _bilinear(output, _share(_size(output), self.full, self.small)) if task in self.dense else output
            for task, output in outputs.items()
        }

    def attach(self, network: nn.Module) -> nn.Module:
        """Let a network resize by itself whenever it is called; names of its parameters stay as they are."""
        network.register_forward_pre_hook(Shrink(self), prepend=True)
        network.register_forward_hook(Enlarge(self))
        return network


@dataclass(frozen=True)
class Shrink:
    """Forward pre-hook of a network that runs at a smaller size."""

    resizing: Resizing

    def __call__(self, network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.resizing.shrink(args[0]), *args[1:])


@dataclass(frozen=True)
class Enlarge:
    """Forward hook of a network that runs at a smaller size."""

    resizing: Resizing

    def __call__(self, network: nn.Module, args: tuple[Any, ...], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.resizing.enlarge(outputs)


def _size(maps_BCHW: Tensor) -> Size:
    return int(maps_BCHW.shape[-2]), int(maps_BCHW.shape[-1])


def _bilinear(maps_BCHW: Tensor, size: Size) -> Tensor:
    if _size(maps_BCHW) == size:
        return maps_BCHW
    return F.interpolate(maps_BCHW, size=size, mode="bilinear", align_corners=False)


def _share(size: Size, numerator: Size, denominator: Size) -> Size:
    """`size * numerator / denominator` on both axes."""
    if any(n * a % b or not n * a for n, a, b in zip(size, numerator, denominator, strict=True)):
        raise ModelError(
            f"a height and width whose {size_text(numerator)} of {size_text(denominator)} parts are whole pixels",
            received=size_text(size),
            where="input size",
            cure="give images of the size that the model was made elastic with, or of a multiple of it",
        )
    return size[0] * numerator[0] // denominator[0], size[1] * numerator[1] // denominator[1]
