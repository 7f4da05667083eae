"""Finds the smaller input sizes that a network can run at, by running it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtnas.base.errors import first_line
from mtnas.base.groups import Size
from mtnas.elastic.resize import Resizing
from mtnas.space.resolution import sizes_of


@dataclass(frozen=True)
class InputSizes:
    """The sizes a network may run at.

    Args:
        full: height and width in pixels of the images.
        sizes: the smaller ones, in ascending area.
        dense: the outputs that follow the image's size.
        refused: sizes that the rules asked for and why the network does not run at them.
    """

    full: Size = (0, 0)
    sizes: tuple[Size, ...] = ()
    dense: tuple[str, ...] = ()
    refused: tuple[tuple[Size, str], ...] = ()

    def resizing(self, size: Size) -> Resizing:
        """How the network runs at one of the sizes."""
        return Resizing(self.full, size, self.dense)


def find_sizes(network: nn.Module, example_BCHW: Tensor, fractions: Sequence[float]) -> InputSizes:
    """Try the network, in evaluation mode, at every smaller size that the rules allow.

    Args:
        network: runs at the example's size.
        example_BCHW: an image batch.
        fractions: of the full height and width; 1 is the full size.
    """
    full: Size = (example_BCHW.shape[2], example_BCHW.shape[3])
    if min(fractions) >= 1.0:
        return InputSizes(full)
    with torch.no_grad():
        outputs, stride = _watched(network, example_BCHW)
        dense = tuple(task for task, output in outputs.items() if output.ndim == 4 and min(output.shape[2:]) > 1)
        tried = InputSizes(full, sizes_of(full, fractions, stride), dense)
        reasons = {size: _refusal(network, example_BCHW, outputs, tried.resizing(size)) for size in tried.sizes}
    good = tuple(size for size in tried.sizes if not reasons[size])
    return InputSizes(full, good, dense, tuple((size, reason) for size, reason in reasons.items() if reason))


def _refusal(network: nn.Module, example_BCHW: Tensor, full: Mapping[str, Tensor], resizing: Resizing) -> str:
    """Why the network does not run at a size; empty when it does."""
    try:
        raw = network(resizing.shrink(example_BCHW))
    except Exception as error:  # noqa: BLE001
        return f"its forward fails: {first_line(error)}"
    if list(raw) != list(full):
        return f"its outputs become {', '.join(raw)}"
    for task, output in full.items():
        follows = task in resizing.dense
        ratios = zip(resizing.small, resizing.full, strict=True)
        expected = [n * a / b for n, (a, b) in zip(output.shape[-2:], ratios)] if follows else output.shape[-2:]
        if raw[task].shape[:-2] != output.shape[:-2] or list(raw[task].shape[-2:]) != list(expected):
            return f"output {task!r} of shape {tuple(output.shape)} becomes {tuple(raw[task].shape)}"
    return ""


def _watched(network: nn.Module, example_BCHW: Tensor) -> tuple[dict[str, Tensor], int]:
    """The outputs, and how many times smaller than the image the smallest map inside is.

    A map whose axes differ in that was pooled to a fixed size, and tells nothing.
    """
    strides = {1}

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found = {stride_of(n, m) for n, m in zip(example_BCHW.shape[2:], output.shape[2:], strict=True)}
            strides.update(found if len(found) == 1 else ())

    handles = [module.register_forward_hook(watch) for module in network.modules()]
    try:
        outputs = network(example_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    return dict(outputs), max(strides)


def stride_of(image: int, length: int) -> int:
    """Pixels of the image for one of a map; odd sizes are halved upwards, so 97 -> 49 -> 25 are strides 2 and 4."""
    power = math.log2(max(1.0, image / length))
    return 2 ** round(power) if abs(power - round(power)) < 0.25 else round(image / length)
