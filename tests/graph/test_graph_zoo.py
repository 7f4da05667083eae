"""Models nobody prepared, and two encoders with two heads: a cut in onnxruntime is the extracted torch module.

The other encoders and heads: `test_encoder_elastic.py`, `test_head_elastic.py`.
"""

from __future__ import annotations

import pytest
import torch
import zoo
from graph_exam import check_counts, check_cut
from graph_pairs import pair_of
from torch.utils.flop_counter import FlopCounterMode

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection

SELECTIONS = 24
NAMES = (*zoo.ZOO, *(f"{encoder}+{head}" for encoder in ("resnet", "mobilenet") for head in ("fpn", "pooled")))


@pytest.fixture(scope="module", params=[*NAMES, "vit+multi_query"])
def pair(request: pytest.FixtureRequest) -> tuple[ElasticModel, ElasticGraph]:
    return pair_of(request.param)


def drawn(elastic: ElasticModel, graph: ElasticGraph) -> list[Selection]:
    """The largest, the smallest, prefixes of the space and arbitrary subsets, half and half."""
    rng = generator(0, "zoo")
    space = elastic.space
    prefixes = [elastic.selection(space.sample(rng)) for _ in range(SELECTIONS // 2 - 2)]
    corners = [Selection.of({}), elastic.selection(space.smallest)]
    return corners + prefixes + [random_selection(graph, rng) for _ in range(SELECTIONS // 2)]


def test_every_cut_is_the_extracted_module(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(1, seed=4)
    for selection in drawn(elastic, graph):
        check_cut(elastic, graph, selection, picture)


def test_counts_are_those_of_torch_and_of_the_file(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    for selection in drawn(elastic, graph)[::7]:
        check_counts(elastic, graph, selection)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            elastic.extract(selection)(zoo.image(1))
        assert graph.counts(selection).macs == flops.get_total_flops() // 2


def test_features_are_named_finite_and_grow_with_width(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    largest = graph.features(Selection.of({}))
    assert largest.shape == (len(graph.feature_names),) == (len(set(graph.feature_names)),)
    assert len(graph.feature_names) <= 500
    for selection in drawn(elastic, graph)[::5]:
        features = graph.features(selection)
        assert (features >= 0).all() and (features <= largest).all()
        named = dict(zip(graph.feature_names, features, strict=True))
        assert named["total/macs"] == graph.counts(selection).macs <= named["total/macs16"] * 16
