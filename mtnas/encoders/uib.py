"""Universal inverted bottlenecks: one block, four operators, told apart by where it has depthwise convolutions.

Source: Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem" (ECCV 2024), section 3: `ib` (one after the
expansion, as in MobileNetV2), `convnext` (one before it), `extra_dw` (both), `ffn` (none). Stages grow as the small
MobileNetV4 does: 32, 64, 96, 128 channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from mtnas.encoders.base import StagedEncoder, conv_bn, multiple_of_8, stage_levels
from mtnas.encoders.kernels import with_kernel
from mtnas.encoders.squeeze import SqueezeExcite
from mtnas.encoders.table import CHOICE, UIB_OPERATORS
from mtnas.forks.one_of import OneOf


class UniversalBottleneck(nn.Module):
    """Depthwise (some), expansion, depthwise (some), squeeze-excite (some), linear 1x1; a shortcut where shapes allow.

    Args:
        channels_in, channels_out: of the block.
        stride: of the depthwise convolution inside, or of the one before where there is no other. An `ffn` has none,
            so that one which strides is an `ib`.
        expansion: hidden channels per input channel.
        operator: a row of `UIB_OPERATORS`, or `choice`: all of them, one to be chosen by the arch.
        squeeze: hidden channels per channel inside the gate; 0 = no gate.
        kernel: of each depthwise convolution, or `choice`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        expansion: int,
        operator: str,
        squeeze: int,
        kernel: int | str = 3,
    ) -> None:
        super().__init__()
        names = [name for name in UIB_OPERATORS if operator in (name, CHOICE)]
        if stride > 1:
            names = list(dict.fromkeys("ib" if name == "ffn" else name for name in names))
        hidden = channels_in * expansion

        def layers_of(name: str) -> nn.Sequential:
            before, inside = UIB_OPERATORS[name]
            layers: list[nn.Module] = []
            if before:
                first = 1 if inside else stride
                layers.append(with_kernel(kernel, lambda k: conv_bn(channels_in, channels_in, k, first, channels_in)))
            layers.append(nn.Sequential(conv_bn(channels_in, hidden, kernel=1), nn.ReLU()))
            if inside:
                wide = partial(conv_bn, hidden, hidden, stride=stride, groups=hidden)
                layers.append(with_kernel(kernel, lambda k: nn.Sequential(wide(k), nn.ReLU())))
            if squeeze:
                layers.append(SqueezeExcite(hidden, multiple_of_8(hidden / squeeze)))
            return nn.Sequential(*layers, conv_bn(hidden, channels_out, kernel=1))

        options = {name: layers_of(name) for name in names}
        self.layers: nn.Module = OneOf(options, "extra_dw") if operator == CHOICE else options[names[0]]
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.layers(x_BCHW) if self.residual else self.layers(x_BCHW)


class UniversalNet(StagedEncoder):
    """Stem at stride 2, then stages at strides 4, 8, 16, ... up to `output_stride`.

    Args:
        width: channels of the stem and of the first stage; stage s has `width * (s + 1)`.
        depth: blocks of each stage.
        in_channels: channels of the image.
        output_stride: the coarsest stride.
        expansion: hidden channels per input channel of a block.
        operator: which depthwise convolutions the blocks have.
        squeeze: hidden channels per channel inside squeeze-excite; 0 = none.
        kernel: of the depthwise convolutions, or `choice`.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        depth: Sequence[int] = (1, 2, 4, 4),
        in_channels: int = 3,
        output_stride: int = 16,
        expansion: int = 4,
        operator: str = "extra_dw",
        squeeze: int = 0,
        kernel: int | str = 3,
    ) -> None:
        super().__init__(
            nn.Sequential(conv_bn(in_channels, width, stride=2), nn.ReLU()),
            stage_levels(width, len(depth), output_stride),
            depth,
            width,
            partial(UniversalBottleneck, expansion=expansion, operator=operator, squeeze=squeeze, kernel=kernel),
        )
