"""Task vectors: one for each level that a head reads, near the value that changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtnas.heads.deeplab import DeepLab
from mtnas.heads.fpn import FPN
from mtnas.heads.pooled import Pooled
from mtnas.heads.vectors import WithTaskVectors

LEVELS = (8, 16, 24)


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, s, s, generator=generator) for c, s in zip(LEVELS, (16, 8, 4), strict=True)]


@pytest.mark.parametrize(("head", "read"), [(FPN, [8, 16, 24]), (DeepLab, [8, 24]), (Pooled, [24])])
@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_one_vector_for_each_level_that_is_read(head: type[FPN], read: list[int], operation: str) -> None:
    torch.manual_seed(0)
    made = WithTaskVectors(head(LEVELS, 3, width=8), LEVELS, operation).eval()
    assert [len(vector) for vector in made.vectors] == read
    neutral = 0.0 if operation == "add" else 1.0
    assert all((vector - neutral).abs().max() < 0.1 for vector in made.vectors)
    with torch.no_grad():
        for vector in made.vectors:
            nn.init.constant_(vector, neutral)
    assert torch.equal(made(maps(), (64, 64)), made.head(maps(), (64, 64)))


@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_vectors_change_the_maps_channel_by_channel(operation: str) -> None:
    torch.manual_seed(0)
    made = WithTaskVectors(FPN(LEVELS, 3, width=8), LEVELS, operation).eval()
    vectors = [vector.detach() for vector in made.vectors]
    changed = [x + v if operation == "add" else x * v for x, v in zip(maps(), vectors, strict=True)]
    assert torch.equal(made(maps(), (64, 64)), made.head(changed, (64, 64)))


def test_a_head_that_reads_one_level_twice_has_one_vector_for_it() -> None:
    assert len(WithTaskVectors(DeepLab((8,), 3, width=8), (8,), "add").vectors) == 1
