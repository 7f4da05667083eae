"""A small network with random data, and what a pruning criterion is given about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from zoo import ZOO, image, randomise

from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.prune.importance import ImportanceInput
from mtnas.space.rules import SpaceRules

Losses = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


def squares(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean squared distance of every output from a random target."""
    return {name: ((output - targets[name]) ** 2).mean() for name, output in outputs.items()}


def scaled(task: str, factor: float) -> Losses:
    """The same with one task's loss multiplied."""
    return lambda outputs, targets: {
        name: loss * (factor if name == task else 1.0) for name, loss in squares(outputs, targets).items()
    }


def zoo_elastic(name: str) -> ElasticModel:
    """A model of the zoo with random weights; random images are its calibration set."""
    model = ZOO[name]()
    randomise(model, seed=1)
    return elastic_of(model.eval())


def elastic_of(model: nn.Module) -> ElasticModel:
    elastic = make_elastic(model, image(), round_to=4, prove=False)
    elastic.calibrate_with(lambda: [image(8, seed=5)])
    return elastic


def forked_elastic(model: nn.Module) -> ElasticModel:
    """Blocks that may be left out, and forks that may be chosen from."""
    randomise(model, seed=1)
    rules = SpaceRules(depth=True, operators=True, experts=True)
    elastic = make_elastic(model.eval(), image(), rules=rules, round_to=4, prove=False)
    elastic.calibrate_with(lambda: [image(8, seed=5)])
    return elastic


def given(
    elastic: ElasticModel, selection: Selection | None = None, losses: Losses = squares, seed: int = 0
) -> ImportanceInput:
    """Two batches of random images and targets."""
    with torch.no_grad():
        shapes = {name: value.shape[1:] for name, value in elastic.model(image()).items()}

    def batches() -> Iterable[tuple[Tensor, dict[str, Tensor]]]:
        for number in range(2):
            rng = torch.Generator().manual_seed(number)
            targets = {name: torch.randn((4, *shape), generator=rng) for name, shape in shapes.items()}
            yield image(4, seed=number), targets

    return ImportanceInput(elastic, selection or Selection(()), losses, batches, seed=seed)
