"""A user's own network, as `model.factory` finds it: three outputs, of which one has no target in the data set."""

from __future__ import annotations

from torch import Tensor, nn


class UserNetwork(nn.Module):
    """A small shared encoder and a decoder for each output."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.seg = decoder(width, 8)
        self.dep = decoder(width, 1)
        self.saliency = decoder(width, 2)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        maps = self.body(image_BCHW)
        return {"segmentation": self.seg(maps), "saliency": self.saliency(maps), "depth": self.dep(maps)}


def decoder(width: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels, 1))


def network(width: int = 16) -> nn.Module:
    return UserNetwork(width)
