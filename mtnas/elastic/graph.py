"""The elastic graph of an elastic model."""

from __future__ import annotations

from mtnas.elastic.model import ElasticModel
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph


def graph_of(elastic: ElasticModel) -> ElasticGraph:
    """Export the largest network with all that may be chosen: groups, blocks, forks and smaller input sizes.

    Raises:
        ModelError: the network cannot be exported, or what may be chosen cannot be followed through the graph.
    """
    return build_elastic_graph(
        elastic.model,
        elastic.example,
        elastic.groups,
        blocks=elastic.skippable,
        forks=elastic.open_forks,
        resized=elastic.resized,
    )
