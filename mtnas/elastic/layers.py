"""What the channels of each layer type mean: its ports, its tensors' axes, its attributes.

A *port* is one side of a layer where channels go in or out. Layers that map every channel onto itself
(normalisation, PReLU, depthwise convolution) have a single port. C = channels of a port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

OUT, IN, BOTH = "out", "in", "both"
ROLES = {OUT: "out", IN: "in", BOTH: "norm"}


@dataclass(frozen=True)
class Port:
    """One side of a layer (or a loose parameter, by its own name)."""

    layer: str
    side: str


@dataclass(frozen=True)
class PortAxis:
    """A tensor axis of a layer: channel c of the port lies at `positions_C[c]`."""

    tensor: str
    axis: int
    positions_C: np.ndarray


def channels_of_blocks(conv: _ConvNd) -> tuple[int, int]:
    """Input and output channels of one block of a grouped convolution."""
    return conv.in_channels // conv.groups, conv.out_channels // conv.groups


def removes_blocks(conv: _ConvNd) -> bool:
    """Whether a channel is removed together with its block (depthwise), so that `groups` shrinks."""
    return conv.groups > 1 and channels_of_blocks(conv)[0] == 1


def is_depthwise(conv: _ConvNd) -> bool:
    return conv.groups > 1 and channels_of_blocks(conv) == (1, 1)


def ports(layer: nn.Module) -> dict[str, int]:
    """Side -> number of channels; empty for a layer that has none of its own."""
    if isinstance(layer, _ConvNd):
        if is_depthwise(layer):
            return {BOTH: layer.out_channels}
        return {IN: layer.in_channels, OUT: layer.out_channels}
    if isinstance(layer, nn.Linear):
        return {IN: layer.in_features, OUT: layer.out_features}
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        return {BOTH: layer.num_features}
    if isinstance(layer, nn.GroupNorm):
        return {BOTH: layer.num_channels}
    if isinstance(layer, nn.LayerNorm):
        return {BOTH: layer.normalized_shape[-1]}
    if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        return {BOTH: layer.num_parameters}
    return {}


def unsupported(layer: nn.Module) -> str:
    """Why the channels of this layer may not be cut; empty when they may."""
    kind = type(layer).__name__
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
        return f"{kind} normalises over its channels"
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase | nn.Embedding):
        return f"{kind} is not cut"
    if (
        isinstance(layer, _ConvNd | nn.Linear | _BatchNorm | _InstanceNorm | nn.PReLU)
        and "weight" not in layer._parameters
    ):
        return f"the weight of {kind} is computed from other parameters"
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        block_in, block_out = channels_of_blocks(layer)
        if block_out == 1 and block_in > 1:
            return f"{kind} has one output channel per block of {block_in} inputs"
    return ""


def block_ties(layer: nn.Module) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Pairs of (side, channel) that must go together inside a grouped convolution.

    Blocks keep equal sizes, so the same channel goes from every block; a block of one input channel goes whole.
    """
    if not isinstance(layer, _ConvNd) or layer.groups == 1 or is_depthwise(layer):
        return []
    block_in, block_out = channels_of_blocks(layer)
    if removes_blocks(layer):
        return [((IN, c // block_out), (OUT, c)) for c in range(layer.out_channels)]
    inner = [((IN, c), (IN, c % block_in)) for c in range(block_in, layer.in_channels)]
    outer = [((OUT, c), (OUT, c % block_out)) for c in range(block_out, layer.out_channels)]
    return inner + outer


def axes(layer: nn.Module, side: str) -> list[PortAxis]:
    """The tensor axes of a layer that follow the channels of one port."""
    if isinstance(layer, _ConvNd):
        found = _conv_axes(layer, side)
    elif isinstance(layer, nn.Linear):
        found = [("weight", 1, layer.in_features)] if side == IN else _weight_and_bias(layer.out_features)
    else:
        count = ports(layer).get(side, 0)
        found = [(name, 0, count) for name in ("weight", "bias", "running_mean", "running_var")]
    channels = ports(layer).get(side, 0)
    tensors: dict[str, Tensor | None] = {**layer._parameters, **layer._buffers}
    return [
        PortAxis(name, axis, np.arange(channels) % block)
        for name, axis, block in found
        if tensors.get(name) is not None
    ]


def _weight_and_bias(channels: int, axis: int = 0, block: int | None = None) -> list[tuple[str, int, int]]:
    return [("weight", axis, block or channels), ("bias", 0, channels)]


def _conv_axes(conv: _ConvNd, side: str) -> list[tuple[str, int, int]]:
    """(tensor, axis, period): channel c lies at position c modulo the period."""
    block_in, block_out = channels_of_blocks(conv)
    if side == BOTH:
        return _weight_and_bias(conv.out_channels)
    if conv.transposed:
        return [("weight", 0, conv.in_channels)] if side == IN else _transposed_out(conv, block_out)
    if side == OUT:
        return _weight_and_bias(conv.out_channels)
    return [] if removes_blocks(conv) else [("weight", 1, block_in)]


def _transposed_out(conv: _ConvNd, block_out: int) -> list[tuple[str, int, int]]:
    return (
        [("bias", 0, conv.out_channels)] if removes_blocks(conv) else _weight_and_bias(conv.out_channels, 1, block_out)
    )


def attributes(layer: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The layer's attributes once its tensors have new shapes."""
    weight = shapes.get("weight")
    if isinstance(layer, _ConvNd) and weight is not None:
        return _conv_attributes(layer, weight)
    if isinstance(layer, nn.Linear) and weight is not None:
        return {"in_features": weight[1], "out_features": weight[0]}
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        sized = weight or shapes.get("running_mean")
        return {"num_features": sized[0]} if sized else {}
    if isinstance(layer, nn.PReLU) and weight is not None:
        return {"num_parameters": weight[0]}
    return {}


def _conv_attributes(conv: _ConvNd, weight: tuple[int, ...]) -> dict[str, int]:
    groups = conv.groups
    if removes_blocks(conv):
        groups = weight[0] // (1 if conv.transposed else channels_of_blocks(conv)[1])
    if conv.transposed:
        return {"groups": groups, "in_channels": weight[0], "out_channels": weight[1] * groups}
    return {"groups": groups, "in_channels": weight[1] * groups, "out_channels": weight[0]}
