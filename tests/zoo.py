"""Models the product has never seen: plain modules `image (B,3,H,W) -> dict[task, Tensor]`, built by plain functions.

Every builder is a row of `ZOO`. The weights come from a seed of their own, and batch-norm statistics and affine
parameters are random, so that nothing agrees by being zero or one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32


def image(batch: int = 2, side: int = SIDE, seed: int = 0) -> Tensor:
    """A random image batch (B,3,side,side)."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, batch-norm, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def upsample(x_BCHW: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PooledHead(nn.Module):
    """Global average pooling, dropout, linear."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.linear(self.drop(F.adaptive_avg_pool2d(x_BCHW, 1).flatten(1)))


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


# --- concatenating skips --------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """Concatenating skips; transposed convolutions in the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = conv_bn(3, 16)
        self.down2 = conv_bn(16, 24, 3, 2)
        self.down3 = conv_bn(24, 32, 3, 2)
        self.up2 = nn.ConvTranspose2d(32, 24, 2, 2)
        self.fuse2 = conv_bn(48, 24)
        self.up1 = nn.ConvTranspose2d(24, 16, 2, 2, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.fuse1 = conv_bn(32, 16)
        self.segmentation = nn.Conv2d(16, 6, 1)
        self.edges = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        a = self.down1(image)
        b = self.down2(a)
        c = self.down3(b)
        b = self.fuse2(torch.cat([b, self.up2(c)], 1))
        a = self.fuse1(torch.cat([F.relu(self.norm1(self.up1(b))), a], 1))
        return {"segmentation": self.segmentation(a), "edges": self.edges(a)}


# --- several resolutions fused --------------------------------------------------------------------------------------


class HighResolutionNet(nn.Module):
    """Two and three resolutions side by side, each fused from all (sums after resizing), concatenated at the end."""

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3 = 16, 24, 32
        self.stem = conv_bn(3, c1, 3, 2)
        self.to2 = conv_bn(c1, c2, 3, 2)
        self.branch1 = conv_bn(c1, c1)
        self.branch2 = conv_bn(c2, c2)
        self.fuse12 = nn.Sequential(nn.Conv2d(c1, c2, 3, 2, 1, bias=False), nn.BatchNorm2d(c2))
        self.fuse21 = nn.Sequential(nn.Conv2d(c2, c1, 1, bias=False), nn.BatchNorm2d(c1))
        self.to3 = conv_bn(c2, c3, 3, 2)
        self.branch3 = conv_bn(c3, c3)
        self.fuse31 = nn.Sequential(nn.Conv2d(c3, c1, 1, bias=False), nn.BatchNorm2d(c1))
        self.mix = conv_bn(c1 + c2 + c3, 32, 1)
        self.segmentation = nn.Conv2d(32, 6, 1)
        self.depth = nn.Sequential(conv_bn(32, 16), nn.Conv2d(16, 1, 1))
        self.presence = PooledHead(c3, 6)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x1 = self.stem(image)
        x2 = self.to2(x1)
        y1, y2 = self.branch1(x1), self.branch2(x2)
        x1 = F.relu(y1 + upsample(self.fuse21(y2), y1))
        x2 = F.relu(y2 + self.fuse12(y1))
        x3 = self.branch3(self.to3(x2))
        x1 = F.relu(x1 + upsample(self.fuse31(x3), x1))
        x = self.mix(torch.cat([x1, upsample(x2, x1), upsample(x3, x1)], 1))
        return {
            "segmentation": upsample(self.segmentation(x), image),
            "depth": upsample(self.depth(x), image),
            "presence": self.presence(x3),
        }


# --- shared layers --------------------------------------------------------------------------------------------------


class SharedHeadNet(nn.Module):
    """One convolution applied to two levels, one module called by both heads, one weight tied between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.level1 = conv_bn(16, 24)
        self.level2 = conv_bn(24, 24, 3, 2)
        self.tower = conv_bn(24, 24)
        self.smooth = nn.Conv2d(24, 16, 3, padding=1)
        self.tied = nn.Conv2d(24, 16, 3, padding=1)
        self.tied.weight = self.smooth.weight
        self.depth = nn.Conv2d(16, 1, 1)
        self.normals = nn.Conv2d(16, 3, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x1 = self.level1(self.stem(image))
        x2 = self.level2(x1)
        x = self.tower(x1) + upsample(self.tower(x2), x1)
        depth = self.depth(F.relu(self.smooth(x)))
        normals = self.normals(F.relu(self.tied(x)))
        return {"depth": upsample(depth, image), "normals": upsample(normals, image)}


# --- flatten, linear ------------------------------------------------------------------------------------------------


class FlattenNet(nn.Module):
    """A map flattened into a two-layer perceptron, beside a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.body = conv_bn(16, 24, 3, 2)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.hidden = nn.Linear(24 * 16, 32)
        self.norm = nn.BatchNorm1d(32)
        self.label = nn.Linear(32, 5)
        self.depth = nn.Conv2d(24, 1, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.body(self.stem(image))
        hidden = F.relu(self.norm(self.hidden(torch.flatten(self.pool(x), 1))))
        return {"label": self.label(hidden), "depth": upsample(self.depth(x), image)}


# --- other norms, loose parameters ----------------------------------------------------------------------------------


class OtherNormsNet(nn.Module):
    """GroupNorm in the shared part, a learned per-channel scale, a linear bottleneck: partly frozen, never wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.GroupNorm(4, 16)
        self.body = nn.Conv2d(16, 24, 3, 2, 1)
        self.scale = nn.Parameter(torch.ones(24, 1, 1))
        self.after = conv_bn(24, 16)
        self.depth = nn.Conv2d(16, 1, 1)
        self.label = PooledHead(24, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.body(F.relu(self.norm(self.stem(image)))) * self.scale
        return {"depth": upsample(self.depth(self.after(x)), image), "label": self.label(x)}


# --- several of the above at once --------------------------------------------------------------------------------


class Unusual(nn.Module):
    """Image skip, spatial gate of one channel, depth multiplier, gated halves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.gate = nn.Conv2d(16, 1, 1)
        self.wide = conv_bn(16, 24)
        self.multiplier = nn.Conv2d(24, 48, 3, padding=1, groups=24)
        self.reduce = conv_bn(48, 24, 1)
        self.mix = conv_bn(3 + 16 + 24, 32)
        self.halves = nn.Conv2d(32, 32, 1)
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        x = x * torch.sigmoid(self.gate(x))
        y = self.reduce(F.relu(self.multiplier(self.wide(x))))
        left, right = self.halves(self.mix(torch.cat([image, x, y], 1))).chunk(2, 1)
        return {"depth": self.depth(left * torch.sigmoid(right))}


class SharedTowerNet(nn.Module):
    """One tower and one head on two levels of a feature pyramid: the same layers give two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = conv_bn(3, 16, 3, 2)
        self.coarse = conv_bn(16, 32, 3, 2)
        self.lateral_fine = nn.Conv2d(16, 24, 1)
        self.lateral_coarse = nn.Conv2d(32, 24, 1)
        self.tower = conv_bn(24, 24)
        self.head = nn.Conv2d(24, 3, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.fine(image)
        coarse = self.coarse(fine)
        top = self.lateral_coarse(coarse)
        bottom = self.lateral_fine(fine) + upsample(top, fine)
        return {"near": self.head(self.tower(bottom)), "far": self.head(self.tower(top))}


class FusedAttention(nn.Module):
    """Queries, keys and values from one layer, four heads written down as a number: no head can go."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fused = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        batch, tokens, channels = x_BNC.shape
        q, k, v = self.fused(self.norm(x_BNC)).view(batch, tokens, 3, 4, channels // 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * (channels // 4) ** -0.5).softmax(-1) @ v
        return x_BNC + self.project(mixed.transpose(1, 2).reshape(batch, tokens, channels))


class OpenAttention(nn.Module):
    """Queries, keys and values from layers of their own; as many heads of eight channels as there are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(channels, 24) for _ in range(3))
        self.project = nn.Linear(24, channels, bias=False)

    def forward(self, x_BNC: Tensor) -> Tensor:
        q, k, v = (f(x_BNC).unflatten(2, (-1, 8)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1) @ v
        return x_BNC + self.project(mixed.transpose(1, 2).flatten(2))


class AttentionNet(nn.Module):
    """Attention of other people's making between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 16, 3, 2), nn.Conv2d(16, 32, 3, 2, 1))
        self.blocks = nn.Sequential(OpenAttention(32), FusedAttention(32))
        self.depth = nn.Sequential(conv_bn(32, 16), nn.Conv2d(16, 1, 1))
        self.label = PooledHead(32, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        x = self.blocks(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[-2:])
        return {"depth": upsample(self.depth(x), image), "label": self.label(x)}


ZOO: dict[str, Callable[[], nn.Module]] = {
    "plain": PlainNet,
    "residual": ResidualNet,
    "stacked": StackedNet,
    "depthwise": DepthwiseNet,
    "squeeze_excite": SqueezeExciteNet,
    "grouped": GroupedNet,
    "unet": UNet,
    "high_resolution": HighResolutionNet,
    "shared": SharedHeadNet,
    "flatten": FlattenNet,
    "other_norms": OtherNormsNet,
    "unusual": Unusual,
    "shared_tower": SharedTowerNet,
    "attention": AttentionNet,
}


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Random weights, affine parameters and running statistics of useful size, from one seed."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=rng) * 0.1)
                module.running_var.copy_(torch.rand(module.num_features, generator=rng) + 0.5)
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn(parameter.shape, generator=rng)
                if parameter.ndim >= 2 and name == "weight":
                    fan = parameter[0].numel()
                    parameter.copy_(noise * (2.0 / fan) ** 0.5)
                else:
                    parameter.copy_(1.0 + 0.2 * noise if name in ("weight", "scale") else 0.1 * noise)


def build(name: str, seed: int = 0) -> nn.Module:
    """One model of the zoo with random weights and statistics, in eval mode."""
    state = torch.get_rng_state()
    model = ZOO[name]()
    torch.set_rng_state(state)
    randomise(model, seed)
    return model.eval()
