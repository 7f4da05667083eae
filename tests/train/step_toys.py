"""Small networks whose images do not see each other, for the tests of steps in parts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from train_toys import SIZE, ToySplit, plain_config, sandwich_config, toy_tasks

from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.train.finetune import finetune
from mtnas.train.loop import train


class NormFree(nn.Module):
    """Two convolutions that all tasks share and one for each task."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        between = nn.GroupNorm(2, 8) if norm else nn.Identity()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), between, nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU())
        self.segmentation, self.depth = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 1, 1)

    def forward(self, image_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(image_BCHW)
        return {"segmentation": self.segmentation(x), "depth": self.depth(x).exp()}


def norm_free(norm: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NormFree(norm)


def norm_free_elastic() -> ElasticModel:
    return make_elastic(norm_free(), torch.randn(2, 3, SIZE, SIZE), round_to=2, prove=False)


class Normed(nn.Module):
    """A shared part of two convolutions with batch-norm, and decoders of two."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
        self.stem = nn.Sequential(*layers, nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.segmentation = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 3, 1))
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1))

    def forward(self, image_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stem(image_BCHW)
        return {"segmentation": self.segmentation(x), "depth": self.depth(x).exp()}


def normed(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Normed()


def normed_elastic() -> ElasticModel:
    elastic = make_elastic(normed(), torch.randn(2, 3, SIZE, SIZE), round_to=4, prove=False)
    assert all(len(choice.options) > 1 for choice in elastic.space.choices) and len(elastic.space.choices) == 4
    return elastic


def tuned(out: Path, model: nn.Module | None = None, **settings: object) -> dict[str, torch.Tensor]:
    """Weights after a few plain steps."""
    model = norm_free() if model is None else model
    config = plain_config(**{"batch_size": 6, "optimizer": "sgd", "lr": 0.02, **settings})
    finetune(model, toy_tasks(), ToySplit(), config, out, teacher=None, seed=0)
    return model.state_dict()


def sandwiched(out: Path, elastic: ElasticModel | None = None, **settings: object) -> dict[str, torch.Tensor]:
    """Weights after a few sandwich steps."""
    elastic = elastic or norm_free_elastic()
    config = sandwich_config(**{"batch_size": 6, "optimizer": "sgd", "lr": 0.02, **settings})
    train(elastic, toy_tasks(), ToySplit(), config, out, seed=0)
    return elastic.state()


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
