"""Networks of the zoo with what few have: flattened maps, other norms, odd gates, attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_layers import PooledHead, conv_bn, upsample

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
