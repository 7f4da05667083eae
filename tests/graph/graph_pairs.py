"""Elastic models with their graphs, made once for all files that ask for the same; nobody may change them."""

from __future__ import annotations

import functools

import zoo
from torch import nn

from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.make import make_encoder
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet


def ours(encoder: str, head: str, **options: str) -> nn.Module:
    """One of our encoders with two heads of one kind."""
    body = make_encoder(encoder, width=16, depth=(1, 1, 1), options=options)
    channels = [level.channels for level in body.levels]
    heads = {task: make_head(head, level_channels=channels, channels=c, width=16) for task, c in (("a", 5), ("b", 3))}
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


def network(name: str) -> nn.Module:
    """A network of the zoo, or `encoder+head`, or `vit+multi_query`."""
    encoder, _, head = name.partition("+")
    if head == "multi_query":
        return ours(encoder, "fpn", attention=head)
    return ours(encoder, head) if head else zoo.build(name)


@functools.cache
def pair_of(name: str) -> tuple[ElasticModel, ElasticGraph]:
    elastic = make_elastic(network(name), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups)
