"""A predictor over widths and depths together: nothing is timed, costs follow from what is left of the cut graph."""

from __future__ import annotations

import depth_zoo
import numpy as np
import pytest
import zoo

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.measure.predictor import fit
from mtnas.space.rules import SpaceRules

NETWORKS, HELD_OUT = 48, 16
Network = tuple[ElasticModel, ElasticGraph]


@pytest.fixture(scope="module")
def network() -> Network:
    model = depth_zoo.network("resnet")
    elastic = make_elastic(model, zoo.image(), round_to=4, rules=SpaceRules(depth=True), prove=False)
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups, blocks=elastic.skippable)


@pytest.fixture(scope="module")
def selections(network: Network) -> list[Selection]:
    """Archs of the space, no two of them the same network."""
    elastic, rng = network[0], generator(0, "depth")
    archs = [elastic.space.largest, elastic.space.smallest, *(elastic.space.sample(rng) for _ in range(2 * NETWORKS))]
    return list(dict.fromkeys(elastic.selection(arch) for arch in archs))[:NETWORKS]


def test_features_are_those_of_the_file_that_is_left(network: Network, selections: list[Selection]) -> None:
    graph = network[1]
    assert len({selection.skipped for selection in selections}) >= 4
    for selection in selections[::3]:
        known = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        found = describe(graph.cut(selection))
        shared = known.keys() & found.keys()
        assert {name: known[name] for name in shared} == pytest.approx({name: found[name] for name in shared})
        assert {name for name in found if name.startswith(("total", "class"))} <= shared
        assert all(known[name] == 0.0 for name in known.keys() - shared)


def test_networks_that_were_never_seen_are_predicted(network: Network, selections: list[Selection]) -> None:
    """Work and traffic cost by blocks of 16 channels; the last networks are held out, whatever their depth."""
    graph = network[1]
    described = [describe(graph.cut(selection)) for selection in selections]
    ms_N = np.array([0.02 + 1e-6 * found["total/macs16"] + 4e-7 * found["total/bytes16"] for found in described])
    features_NF = np.array([graph.features(selection) for selection in selections])
    away = list(range(NETWORKS - HELD_OUT, NETWORKS))
    assert {bool(selections[i].skipped) for i in away} == {False, True}
    predictor = fit(features_NF, ms_N, 0, held_out=away, names=graph.feature_names)
    errors_N = np.abs(predictor.values(features_NF[away]) / ms_N[away] - 1.0)
    assert errors_N.max() < 0.05
    assert predictor.held_out.spearman > 0.99
    assert np.ptp(ms_N[away]) > 0.3 * ms_N.max()  # the networks do differ


def test_leaving_out_a_block_is_less_work(network: Network) -> None:
    elastic, graph = network
    everything = graph.features(Selection.of({}))
    places = [graph.feature_names.index(name) for name in ("total/macs", "total/macs16")]
    for block in elastic.skippable:
        assert (graph.features(Selection.of({}, [block]))[places] < everything[places]).all()
