"""Vectors before convolutions fold into them where that is exact, and stay where it is not."""

from __future__ import annotations

import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.seeds import generator
from mtnas.elastic.model import make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.prove import random_selection, relative_error, run_model


class Behind(nn.Module):
    """A stem, a vector, and convolutions (kernel, padding, groups) that read the result; maybe another reader."""

    def __init__(self, multiplies: bool, *convolutions: tuple[int, int, int], bare: bool = False) -> None:
        super().__init__()
        self.stem, self.multiplies, self.bare = zoo.conv_bn(3, 16, stride=2), multiplies, bare
        self.vector = nn.Parameter(torch.randn(16, 1, 1))
        self.readers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, k, padding=p, groups=g, bias=number > 0), nn.BatchNorm2d(16), nn.ReLU())
            for number, (k, p, g) in enumerate(convolutions)
        )
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        x = x * self.vector if self.multiplies else x + self.vector
        total = sum(reader(x).mean((2, 3), keepdim=True) for reader in self.readers)
        return {"depth": self.depth(total + x if self.bare else total)}


CASES = {
    "product before 1x1 and padded 3x3": (Behind(True, (1, 0, 1), (3, 1, 1)), True),
    "sum before 1x1 and 3x3 without padding": (Behind(False, (1, 0, 1), (3, 0, 1)), True),
    "sum before a padded convolution": (Behind(False, (1, 0, 1), (3, 1, 1)), False),
    "product before a depthwise convolution": (Behind(True, (3, 1, 16)), False),
    "product that others read, too": (Behind(True, (1, 0, 1), bare=True), False),
}


@pytest.mark.parametrize("name", CASES)
def test_vectors_before_convolutions(name: str) -> None:
    model, folds = CASES[name]
    zoo.randomise(model)
    elastic = make_elastic(model.eval(), zoo.image(), round_to=4)
    graph, rng, picture = (
        build_elastic_graph(elastic.model, elastic.example, elastic.groups),
        generator(0),
        zoo.image(1),
    )
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    for _ in range(4):
        selection = random_selection(graph, rng)
        statistics = elastic.statistics(selection)
        arrays = {key: tensor.numpy() for key, tensor in statistics.items()}
        with torch.no_grad():
            expected = elastic.extract(selection, statistics=statistics)(picture)["depth"].numpy()
        for fold_bn in (True, False):
            cut = graph.cut(selection, statistics=arrays, fold_bn=fold_bn)
            assert relative_error(run_model(cut, picture.numpy())["depth"], expected) <= 1e-5
            held = {tensor.name for tensor in cut.graph.initializer}
            assert ("vector" in held) == (not (folds and fold_bn))
        assert graph.counts(selection).params == sum(
            parameter.numel() for parameter in elastic.extract(selection, statistics=statistics).parameters()
        )
