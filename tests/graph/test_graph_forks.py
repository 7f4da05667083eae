"""Operators and experts in the elastic graph: a cut with one option is the torch network with that option."""

from __future__ import annotations

import itertools
from pathlib import Path

import fork_zoo
import numpy as np
import onnx
import pytest
import torch
import zoo
from elastic_exam import check_sums
from graph_exam import check_answering, check_counts, check_cut

from mtnas.base.errors import SpaceError
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.device.cut import Base, cut_bytes
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import MODEL_FILE, PLAN_FILE, ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.graph.forks import forks_of, varied
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.measure.reach.shipping import Shipping
from mtnas.space.rules import SpaceRules

SELECTIONS = 16
TOLERANCE = 1e-4
#: networks that may run at half the input size, too
SIZED = ("nested", "kernels")


@pytest.fixture(scope="module", params=fork_zoo.ZOO)
def pair(request: pytest.FixtureRequest) -> tuple[ElasticModel, ElasticGraph]:
    resolution = (0.5, 1.0) if request.param in SIZED else (1.0,)
    rules = SpaceRules(depth=True, operators=True, experts=True, resolution=resolution)
    elastic = make_elastic(fork_zoo.network(request.param), zoo.image(), round_to=4, rules=rules)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, graph_of(elastic)


def drawn(elastic: ElasticModel, graph: ElasticGraph) -> list[Selection]:
    """Every option of every fork, the largest and the smallest, archs of the space, and arbitrary units and options."""
    rng = generator(0, "forks")
    options = [Selection.of({}, chosen=chosen) for chosen in varied(graph.forks)]
    archs = [elastic.selection(elastic.space.sample(rng)) for _ in range(SELECTIONS // 2)]
    subsets = [random_selection(graph, rng) for _ in range(SELECTIONS // 2)]
    found = [Selection.of({}), elastic.selection(elastic.space.smallest), *options, *archs, *subsets]
    return [selection.compact(elastic.groups, elastic.open_forks) for selection in found]


def test_every_cut_is_the_extracted_module(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(1, seed=4)
    for selection in drawn(elastic, graph):
        check_cut(elastic, graph, selection, picture)


def test_the_file_runs_as_the_largest_network(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(2, seed=5)
    with torch.no_grad():
        expected = elastic.run(picture)
    found = run_model(graph.full_model(), picture.numpy())
    assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= TOLERANCE


def test_nothing_of_the_other_options_is_left(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    for selection in drawn(elastic, graph):
        held = set(elastic.extract(selection).state_dict())
        for fold_bn in (True, False):
            model = graph.cut(selection, fold_bn=fold_bn)
            names = {tensor.name for tensor in model.graph.initializer} & set(graph.names.known)
            assert names <= held
            read = {name for node in model.graph.node for name in node.input}
            made = {name for node in model.graph.node for name in node.output}
            assert names <= read and made <= read | set(graph.outputs)
            onnx.checker.check_model(model, full_check=True)


def test_counts_are_those_of_torch_and_of_the_file(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    for selection in drawn(elastic, graph):
        check_counts(elastic, graph, selection)


def test_the_cost_of_an_option_is_what_the_fork_says(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    full = graph.counts(Selection.of({})).macs
    for fork in (fork for fork in elastic.open_forks if not fork.needs):
        for option, macs in zip(fork.options, fork.macs, strict=True):
            found = graph.counts(Selection.of({}, chosen={fork.name: option})).macs
            assert full - found == fork.macs[-1] - macs


def test_features_are_those_of_the_file_that_is_left(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    assert len(set(graph.feature_names)) == len(graph.feature_names)
    for selection in drawn(elastic, graph)[::3]:
        known = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        found = describe(graph.cut(selection))
        shared = known.keys() & found.keys()
        assert {name: known[name] for name in shared} == pytest.approx({name: found[name] for name in shared})
        assert known["total/macs"] == graph.counts(selection).macs


def test_no_work_is_lost_in_combinations_that_fuse_anew() -> None:
    """All nine networks of a cell: a sum runs inside another convolution in some, which no name is for."""
    model = fork_zoo.Forked(fork_zoo.Cell()).eval()
    elastic = make_elastic(model, zoo.image(), rules=SpaceRules(operators=True), prove=False)
    graph = graph_of(elastic)
    names, unnamed = set(graph.feature_names), 0
    options = {item.fork.name: item.fork.options for item in graph.forks}
    for taken in itertools.product(*options.values()):
        selection = Selection.of({}, chosen=dict(zip(options, taken, strict=True)))
        found = describe(graph.cut(selection))
        unnamed += any("/conv1x1+add@" in name for name in found.keys() - names)
        known = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        assert known["total/macs"] == graph.counts(selection).macs
        check_sums(known)
    assert unnamed


def test_the_device_puts_the_same_bytes_together(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    """And the arrays of every option are sent once, not with each network."""
    elastic, graph = pair
    shipping = Shipping(graph)
    base = Base(shipping.base)
    for selection in drawn(elastic, graph):
        assert cut_bytes(base, shipping.recipe(selection)) == shipping.make(selection)
    for chosen in varied(graph.forks):
        whole = Selection.of({}, chosen=chosen)
        large = [t for t in graph.cut(whole).graph.initializer if len(t.raw_data) >= 256]
        named = shipping.recipe(whole).partition(b"\n")[0].count(b"{}")
        assert named == len(large)


def test_another_input_size_keeps_its_forks(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(1, side=64, seed=5)
    for chosen in varied(graph.forks):
        selection = Selection.of({}, chosen=chosen).compact(elastic.groups, elastic.open_forks)
        statistics = elastic.statistics(selection)
        arrays = {name: tensor.numpy() for name, tensor in statistics.items()}
        with torch.no_grad():
            expected = elastic.extract(selection, statistics=statistics)(picture)
        found = run_model(graph.cut(selection, statistics=arrays, input_size=(64, 64)), picture.numpy())
        assert max(relative_error(found[task], output.numpy()) for task, output in expected.items()) <= TOLERANCE


def test_some_tasks_alone_are_what_the_whole_computes(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    picture = zoo.image(1, seed=6).numpy()
    for selection in drawn(elastic, graph)[:4]:
        whole = graph.cut(selection)
        for task in elastic.tasks:
            alone = run_model(keep_outputs(whole, [task]), picture)
            assert np.array_equal(alone[task], run_model(whole, picture)[task])
        check_answering(elastic, graph, selection, zoo.image(1, seed=6))


def test_statistics_of_another_option_are_not_called_its_own(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    elastic, graph = pair
    selection = Selection.of({}, chosen=varied(graph.forks)[-1]).compact(elastic.groups, elastic.open_forks)
    own = {name: tensor.numpy() for name, tensor in elastic.statistics(selection).items()}
    for model, kind in ((graph.cut(selection), "full"), (graph.cut(selection, statistics=own), "selection")):
        told = {prop.key: prop.value for prop in model.metadata_props}
        assert told == {"mtnas.selection": selection.id, "mtnas.statistics": kind}


def test_saved_and_loaded_with_its_forks(pair: tuple[ElasticModel, ElasticGraph], tmp_path: Path) -> None:
    elastic, graph = pair
    graph.save(tmp_path)
    loaded = ElasticGraph.load(tmp_path)
    assert loaded.forks == graph.forks and forks_of(loaded.forks) == elastic.open_forks
    assert loaded.groups == graph.groups and {s: r.forks for s, r in loaded.resized.items()} == {
        s: r.forks for s, r in graph.resized.items()
    }
    for selection in drawn(elastic, graph)[::3]:
        assert loaded.cut(selection).SerializeToString() == graph.cut(selection).SerializeToString()
        assert Selection.from_json(selection.to_json()) == selection
    record = read_json(tmp_path / PLAN_FILE)
    del record["forks"]  # as files were before forks
    write_json(tmp_path / PLAN_FILE, record)
    old = ElasticGraph.load(tmp_path)
    assert old.counts(Selection.of({})).macs == graph.counts(Selection.of({})).macs
    with pytest.raises(SpaceError, match="a fork with options to choose from"):
        old.cut(Selection.of({}, chosen=varied(graph.forks)[0]))
    assert (tmp_path / MODEL_FILE).exists()


def test_a_wrong_option_is_an_error(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    _, graph = pair
    with pytest.raises(SpaceError, match="received: 'other'"):
        graph.counts(Selection.of({}, chosen={graph.forks[0].fork.name: "other"}))


def test_a_network_without_forks_is_exported_as_ever() -> None:
    model = zoo.build("residual")
    elastic = make_elastic(model, zoo.image(), rules=SpaceRules(depth=True, operators=True, experts=True))
    plain = build_elastic_graph(elastic.model, elastic.example, elastic.groups, blocks=elastic.skippable)
    assert graph_of(elastic).full_model().SerializeToString() == plain.full_model().SerializeToString()
    assert "forks" not in elastic.summary().to_json() and plain.forks == ()
