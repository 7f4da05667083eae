"""Channels that meet without weights: proven where a silent channel is a missing one, frozen where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

from mtnas.elastic.model import make_elastic


def products(x: Tensor) -> Tensor:
    """Every place mixes all places, weighed by the product of their channels."""
    flat_BCN = x.flatten(2)
    mixed_BCN = flat_BCN @ (flat_BCN.transpose(1, 2) @ flat_BCN / flat_BCN.shape[2])
    return mixed_BCN.unflatten(2, x.shape[-2:])


SILENT_IS_MISSING: dict[str, Callable[[Tensor], Tensor]] = {
    "products": products,
    "length of a vector": lambda x: F.normalize(x, dim=1),
    "sum over channels": lambda x: x * torch.sigmoid(x.sum(1, keepdim=True)),
}
SILENT_IS_SEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over channels": lambda x: x - x.mean(1, keepdim=True),
    "softmax over channels": lambda x: x.softmax(1),
}


class Meeting(nn.Module):
    """One convolution, its channels meeting each other, one output."""

    def __init__(self, meet: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.body, self.meet = zoo.conv_bn(3, 16, stride=2), nn.Conv2d(16, 16, 3, 2, 1), meet
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.meet(self.body(self.stem(image))))}


@pytest.mark.parametrize("name", [*SILENT_IS_MISSING, *SILENT_IS_SEEN])
def test_channels_that_meet_each_other(name: str) -> None:
    meet = {**SILENT_IS_MISSING, **SILENT_IS_SEEN}[name]
    groups = {group.name: group for group in make_elastic(Meeting(meet).eval(), zoo.image()).groups}
    assert groups["stem.0"].elastic
    assert groups["body"].elastic == (name in SILENT_IS_MISSING)
    assert name in SILENT_IS_MISSING or "mixes its channels" in groups["body"].frozen
