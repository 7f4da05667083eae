"""Networks of the zoo that join several resolutions, or use one layer several times."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_layers import PooledHead, conv_bn, upsample

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
