"""Squeeze-excite: every channel is scaled by a gate that sees the whole image.

Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks" (CVPR 2018), section 3; the gate is a hard sigmoid, as in
Howard et al., "Searching for MobileNetV3", section 5.3, which 8-bit arithmetic knows.
"""

from __future__ import annotations

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Mean over the image, 1x1 to `squeezed` channels, ReLU, 1x1 back, gate."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BC11 = x_BCHW.mean((2, 3), keepdim=True)
        return x_BCHW * self.gate(self.fc2(self.relu(self.fc1(mean_BC11))))
