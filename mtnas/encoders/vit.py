"""A vision transformer whose input size is free, with maps at several strides.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words" (pre-norm blocks); Xiao et al., "Early Convolutions Help
Transformers See Better", section 4 (a stem of strided 3x3 convolutions instead of one large patch); Chu et al.,
"Conditional Positional Encodings for Vision Transformers", section 3 (a depthwise convolution with zero padding tells
tokens where they are: it has no table of a fixed size to interpolate). Maps finer than the tokens are the stem's own,
so that decoders with a top-down path find details there, and no layer exists that a coarse decoder would not need.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from mtnas.base.tables import lookup
from mtnas.encoders.base import Encoder, Level, conv_bn, stage_levels
from mtnas.encoders.table import ATTENTIONS, CHOICE
from mtnas.forks.one_of import OneOf


class Mlp(nn.Module):
    """`x + reduce(gelu(expand(norm(x))))`, token by token (B,N,C)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.gelu = nn.GELU()
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return x_BNC + self.reduce(self.gelu(self.expand(self.norm(x_BNC))))


class Stem(nn.Module):
    """Strided 3x3 convolutions from the image to the tokens; returns the maps of strides 4, 8, ..., the tokens last.

    Args:
        in_channels: channels of the image.
        channels: of the maps at strides 4, 8, ...; the last are a token's.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Sequential(conv_bn(in_channels, channels[0], stride=2), nn.ReLU())
        sizes = [channels[0], *channels]
        pairs = list(itertools.pairwise(sizes))
        self.maps = nn.ModuleList([nn.Sequential(conv_bn(a, b, stride=2), nn.ReLU()) for a, b in pairs[:-1]])
        self.tokens = conv_bn(*pairs[-1], stride=2)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        x_BCHW, maps = self.first(image_BCHW), []
        for step in self.maps:
            x_BCHW = step(x_BCHW)
            maps.append(x_BCHW)
        return [*maps, self.tokens(x_BCHW)]


def attention_of(kind: str, channels: int, heads: int, head_channels: int) -> nn.Module:
    """One attention with its residual; for `choice`, a `OneOf` of all kinds, which of one head are all the same."""
    if kind == CHOICE and heads == 1:
        kind = next(iter(ATTENTIONS))
    options: dict[str, nn.Module] = {
        name: lookup(name, ATTENTIONS, "attention", "model.attention")(channels, heads, head_channels)
        for name in (ATTENTIONS if kind == CHOICE else (kind,))
    }
    return OneOf(options, next(iter(ATTENTIONS))) if kind == CHOICE else options[kind]


class ViT(Encoder):
    """Stem, positions, then stages of transformer blocks on tokens of one stride.

    Levels finer than the tokens are the stem's maps; the others are the tokens after their stage. A block is two
    residuals, attention and MLP, each a module of its own, so that depth is counted in residuals.

    Args:
        width: channels of the first level; finer levels than the tokens have `width * (level + 1)`.
        depth: blocks of each stage; a token has `width` channels per stage.
        in_channels: channels of the image.
        output_stride: the tokens' stride, unless there are too few stages to come so far.
        attention: a row of `ATTENTIONS`, or `choice`: in every block all of them, one to be chosen by the arch.
        head_channels: of attention, 0 = 32 where a token's are a multiple of that, else 16; there are as many heads as
            fit in a token, at least one.
        expansion: hidden channels of an MLP, relative to a token's.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        depth: Sequence[int] = (1, 2, 2, 2),
        in_channels: int = 3,
        output_stride: int = 16,
        attention: str = "multi_head",
        head_channels: int = 0,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        plain = stage_levels(width, len(depth), output_stride)
        channels, stride = plain[-1].channels, plain[-1].stride
        fine = [level for level in plain if level.stride < stride]
        self.levels = (*fine, *[Level(channels, stride)] * (len(plain) - len(fine)))
        self.stem = Stem(in_channels, [*(level.channels for level in fine), channels])
        self.position = conv_bn(channels, channels, groups=channels)
        head_channels = head_channels or (32 if channels % 32 == 0 else 16)
        heads = max(1, channels // head_channels)
        stages = []
        for blocks in depth:
            stage = nn.Sequential()
            for _ in range(blocks):
                stage.extend(
                    [attention_of(attention, channels, heads, head_channels), Mlp(channels, expansion * channels)]
                )
            stages.append(stage)
        self.stages = nn.ModuleList(stages)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        *fine, x_BCHW = self.stem(image_BCHW)
        size = x_BCHW.shape[-2:]
        tokens_BNC = (x_BCHW + self.position(x_BCHW)).flatten(2).transpose(1, 2)
        maps = []
        for number, stage in enumerate(self.stages):
            tokens_BNC = stage(tokens_BNC)
            if number >= len(fine):
                maps.append(tokens_BNC.transpose(1, 2).unflatten(2, size))
        return (*fine, *maps)
