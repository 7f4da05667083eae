"""Depth in the elastic graph: a cut without blocks is the extracted torch module, and its costs are counted exactly."""

from __future__ import annotations

import math
from pathlib import Path

import depth_zoo
import numpy as np
import pytest
import torch
import zoo
from graph_exam import check_counts, check_cut

from mtnas.base.errors import SpaceError
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import PLAN_FILE, ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.space.rules import SpaceRules

SELECTIONS = 16
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=depth_zoo.BLOCKS)
def pair(request: pytest.FixtureRequest) -> tuple[ElasticModel, ElasticGraph]:
    elastic = make_elastic(depth_zoo.network(request.param), zoo.image(), round_to=4, rules=SpaceRules(depth=True))
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups, blocks=elastic.skippable)


def drawn(elastic: ElasticModel, graph: ElasticGraph) -> list[Selection]:
    """Every block alone, all blocks, archs of the space, and arbitrary units with arbitrary blocks."""
    rng = generator(0, "depth")
    alone = [Selection.of({}, [name]) for name in elastic.skippable]
    archs = [elastic.selection(elastic.space.sample(rng)) for _ in range(SELECTIONS // 2)]
    subsets = [random_selection(graph, rng) for _ in range(SELECTIONS // 2)]
    return [*alone, Selection.of({}, elastic.skippable), elastic.selection(elastic.space.smallest), *archs, *subsets]


def test_every_cut_is_the_extracted_module(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(1, seed=4)
    for selection in drawn(elastic, graph):
        check_cut(elastic, graph, selection, picture)


def test_nothing_of_a_skipped_block_is_left(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    everything = Selection.of({}, elastic.skippable)
    for fold_bn in (True, False):
        model = graph.cut(everything, fold_bn=fold_bn)
        names = {tensor.name for tensor in model.graph.initializer}
        assert not any(name.startswith(tuple(f"{block}." for block in elastic.skippable)) for name in names)
        read = {name for node in model.graph.node for name in node.input}
        assert names <= read
        assert len(model.graph.node) < len(graph.cut(Selection.of({}), fold_bn=fold_bn).graph.node)


def test_counts_are_those_of_torch_and_of_the_file(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    for selection in drawn(elastic, graph)[::2]:
        check_counts(elastic, graph, selection)


def test_features_are_those_of_the_graph_without_its_blocks(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    """Same names at every depth; what is worked out for a depth is nowhere lost."""
    elastic, graph = pair
    shape = (len(graph.feature_names),)
    assert len(set(graph.feature_names)) == len(graph.feature_names)
    for selection in drawn(elastic, graph)[::4]:
        features = graph.features(selection)
        assert features.shape == shape and (features >= 0).all()
        named = dict(zip(graph.feature_names, features, strict=True))
        assert named["total/macs"] == graph.counts(selection).macs
        parts = {kind: 0.0 for kind in ("class", "layer", "branch")}
        for name, value in named.items():
            kind = name.partition("/")[0]
            if kind in parts and name.endswith("/macs16"):
                parts[kind] += value
        assert all(math.isclose(total, named["total/macs16"], rel_tol=1e-9) for total in parts.values())


def test_another_input_size_keeps_its_blocks(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    selection = Selection.of({}, elastic.skippable)
    statistics = elastic.statistics(selection)
    arrays = {name: tensor.numpy() for name, tensor in statistics.items()}
    picture = zoo.image(1, side=64, seed=5)
    with torch.no_grad():
        expected = elastic.extract(selection, statistics=statistics)(picture)
    found = run_model(graph.cut(selection, statistics=arrays, input_size=(64, 64)), picture.numpy())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= TOLERANCE


def test_statistics_of_another_depth_are_not_called_its_own(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    selection = Selection.of({}, elastic.skippable)
    own = {name: tensor.numpy() for name, tensor in elastic.statistics(selection).items()}
    for model, kind in ((graph.cut(selection), "full"), (graph.cut(selection, statistics=own), "selection")):
        told = {prop.key: prop.value for prop in model.metadata_props}
        assert told == {"mtnas.selection": selection.id, "mtnas.statistics": kind}


def test_saved_and_loaded_with_its_blocks(pair: tuple[ElasticModel, ElasticGraph], tmp_path: Path) -> None:
    elastic, graph = pair
    graph.save(tmp_path)
    loaded = ElasticGraph.load(tmp_path)
    assert loaded.bypasses == graph.bypasses and tuple(loaded.bypasses) == elastic.skippable
    selection = random_selection(graph, np.random.default_rng(3))
    assert loaded.cut(selection).SerializeToString() == graph.cut(selection).SerializeToString()
    record = read_json(tmp_path / PLAN_FILE)
    del record["bypasses"]  # as files were before depth
    write_json(tmp_path / PLAN_FILE, record)
    old = ElasticGraph.load(tmp_path)
    assert old.counts(Selection.of({})) == graph.counts(Selection.of({}))
    with pytest.raises(SpaceError, match="a block that may be left out"):
        old.cut(Selection.of({}, elastic.skippable))


def test_marks_leave_no_trace() -> None:
    """The graph with blocks is the graph without, node for node."""
    model = depth_zoo.Around(depth_zoo.Residual()).eval()
    elastic = make_elastic(model, zoo.image(), rules=SpaceRules(depth=True))
    plain = build_elastic_graph(elastic.model, elastic.example, elastic.groups).full_model().graph
    marked = build_elastic_graph(elastic.model, elastic.example, elastic.groups, blocks=elastic.skippable)
    other = marked.full_model().graph
    assert [node.op_type for node in plain.node] == [node.op_type for node in other.node]
    assert {tensor.name for tensor in plain.initializer} == {tensor.name for tensor in other.initializer}
