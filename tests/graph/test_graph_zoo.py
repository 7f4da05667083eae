"""Models nobody prepared, and two encoders with two heads: a cut in onnxruntime is the extracted torch module.

The other encoders and heads: `test_encoder_elastic.py`, `test_head_elastic.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import zoo
from graph_exam import check_counts, check_cut
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.make import make_encoder
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet

SELECTIONS = 50
ENCODERS, HEADS = ("resnet", "mobilenet"), ("fpn", "pooled")
TOLERANCE = 1e-4


def network(encoder: str, head: str, **options: str) -> nn.Module:
    """One of our encoders with two heads of one kind."""
    body = make_encoder(encoder, width=16, depth=(1, 1, 1), options=options)
    channels = [level.channels for level in body.levels]
    heads = {task: make_head(head, level_channels=channels, channels=c, width=16) for task, c in (("a", 5), ("b", 3))}
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda name=name: zoo.build(name)) for name in zoo.ZOO},  # type: ignore[misc]
    **{f"{e}+{h}": (lambda e=e, h=h: network(e, h)) for e in ENCODERS for h in HEADS},  # type: ignore[misc]
    "vit+multi_query": lambda: network("vit", "fpn", attention="multi_query"),
}


@pytest.fixture(scope="module", params=list(MODELS))
def pair(request: pytest.FixtureRequest) -> tuple[ElasticModel, ElasticGraph]:
    elastic = make_elastic(MODELS[request.param](), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups)


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
