"""Networks of the zoo that differ in their blocks: residual, depthwise, gated, grouped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_layers import PooledHead, conv_bn, upsample

# --- one net, no norm -----------------------------------------------------------------------------------------------


class PlainNet(nn.Module):
    """Convolutions with bias and two heads; no batch-norm at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.act = nn.PReLU(24)
        self.depth = nn.Conv2d(24, 1, 1)
        self.label = PooledHead(24, 5)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.act(self.second(F.relu(self.first(image))))
        return {"depth": upsample(self.depth(x), image), "label": self.label(x)}


# --- residual adds --------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.skip = nn.Identity() if c_in == c_out and stride == 1 else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.skip(x))


class ResidualNet(nn.Module):
    """Residual stages, two dense heads and one image-level head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.stages = nn.Sequential(
            ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 32, 1), ResidualBlock(32, 48, 2)
        )
        self.segmentation = nn.Sequential(conv_bn(48, 24), nn.Conv2d(24, 6, 1))
        self.depth = nn.Sequential(conv_bn(48, 16), nn.Conv2d(16, 1, 1))
        self.presence = PooledHead(48, 6)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stages(self.stem(image))
        return {
            "segmentation": upsample(self.segmentation(x), image),
            "depth": upsample(self.depth(x), image),
            "presence": self.presence(x),
        }


class PreactivationBlock(nn.Module):
    """Norm and activation before each convolution, a channel gate, a bare sum at the end."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(hidden)
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden, channels, 3, padding=1, bias=False)
        self.gate = nn.Conv2d(channels, channels, 1)
        self.drop = nn.Dropout2d(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.hardswish(self.norm1(x)))
        y = self.conv2(F.hardswish(self.norm2(y)))
        return x + self.drop(y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True))))


class StackedNet(nn.Module):
    """Stages of several pre-activation blocks in a loop, the first map read by a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.fine = nn.ModuleList([PreactivationBlock(16, 24) for _ in range(3)])
        self.down = nn.Conv2d(16, 32, 3, 2, 1)
        self.coarse = nn.ModuleList([PreactivationBlock(32, 16) for _ in range(2)])
        self.edges = nn.Conv2d(16, 1, 1)
        self.segmentation = nn.Sequential(conv_bn(32, 24), nn.Conv2d(24, 5, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        for block in self.fine:
            x = block(x)
        edges = self.edges(x)
        x = self.down(x)
        for block in self.coarse:
            x = block(x)
        return {"edges": upsample(edges, image), "segmentation": upsample(self.segmentation(x), image)}


# --- depthwise, inverted residuals, squeeze-excite ------------------------------------------------------------------


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = c_in * expand
        self.expand = conv_bn(c_in, wide, 1)
        self.depthwise = conv_bn(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.residual = c_in == c_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class DepthwiseNet(nn.Module):
    """Inverted residuals: depthwise convolutions between an expansion and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.blocks = nn.Sequential(
            InvertedResidual(16, 16, 1, 2), InvertedResidual(16, 24, 2, 3), InvertedResidual(24, 24, 1, 2)
        )
        self.normals = nn.Sequential(conv_bn(24, 24, 3, groups=24), nn.Conv2d(24, 3, 1))
        self.label = PooledHead(24, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.blocks(self.stem(image))
        return {"normals": upsample(self.normals(x), image), "label": self.label(x)}


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate


class SqueezeExciteNet(nn.Module):
    """Channel gates by squeeze-excite, hard-swish activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.first = SqueezeExcite(16, 8)
        self.body = conv_bn(16, 32, 3, 2)
        self.second = SqueezeExcite(32, 8)
        self.edges = nn.Conv2d(32, 1, 3, padding=1)
        self.label = PooledHead(32, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.second(self.body(self.first(self.stem(image))))
        return {"edges": upsample(self.edges(x), image), "label": self.label(x)}


# --- grouped convolutions -------------------------------------------------------------------------------------------


class GroupedNet(nn.Module):
    """Grouped (not depthwise) convolutions: a bottleneck with 4 blocks, one with 2, a residual around both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2)
        self.narrow = conv_bn(32, 32, 1)
        self.grouped = conv_bn(32, 32, 3, 1, groups=4)
        self.widen = nn.Sequential(nn.Conv2d(32, 32, 1, bias=False), nn.BatchNorm2d(32))
        self.halves = conv_bn(32, 48, 3, 2, groups=2)
        self.quarters = conv_bn(48, 48, 3, 1, groups=4)
        self.segmentation = nn.Conv2d(48, 5, 1)
        self.depth = nn.Sequential(conv_bn(48, 16), nn.Conv2d(16, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        x = F.relu(x + self.widen(self.grouped(self.narrow(x))))
        x = self.quarters(self.halves(x))
        return {"segmentation": upsample(self.segmentation(x), image), "depth": upsample(self.depth(x), image)}
