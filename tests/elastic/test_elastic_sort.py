"""Which channels are strong: those that the next layers read with large weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.elastic.sort import l1_importance


class Normed(nn.Module):
    """Eight channels between a normalised convolution and two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depth, self.edges = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.norm(self.make(image_BCHW)))
        return {"depth": self.depth(x), "edges": self.edges(x)}


def elastic_of(model: nn.Module) -> ElasticModel:
    return make_elastic(model.eval(), torch.randn(2, 3, 16, 16), round_to=2)


def test_a_unit_counts_what_its_readers_weigh() -> None:
    model = Normed()
    elastic = elastic_of(model)
    group = next(group for group in elastic.groups if group.elastic)
    found = l1_importance(elastic.groups, model.state_dict())[group.name]
    expected = sum(layer.weight.abs().mean((0, 2, 3)) for layer in (model.depth, model.edges))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6)


def test_a_unit_that_is_only_made_large_is_not_strong() -> None:
    """Batch-norm undoes the scale of what makes a unit; of its readers' weights it does not."""
    model = Normed()
    with torch.no_grad():
        for layer in (model.depth, model.edges):
            layer.weight.copy_(torch.arange(1.0, 9.0)[None, :, None, None].expand_as(layer.weight))
        model.make.weight[0] *= 1000.0
    elastic = elastic_of(model)
    elastic.sort_channels()
    assert elastic.model.depth.weight.flatten().tolist() == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


def test_what_nothing_reads_counts_what_makes_it() -> None:
    model = Normed()
    elastic = elastic_of(model)
    last = [group for group in elastic.groups if ("edges.weight", "out") in {(m.name, m.role) for m in group.members}]
    found = l1_importance(elastic.groups, model.state_dict())[last[0].name]
    assert found == pytest.approx(model.edges.weight.abs().mean((1, 2, 3)).detach().numpy())
