"""Input sizes in the elastic graph: a cut at a smaller size is the extracted torch module, and its costs are exact."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import depth_zoo
import numpy as np
import pytest
import torch
import zoo
from graph_exam import check_answering, check_counts
from torch import Tensor, nn

from mtnas.base.errors import CheckpointError, ModelError, SpaceError
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.device.cut import Base, cut_bytes
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import PLAN_FILE, ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.graph.part_counts import count_parts
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.measure.reach.shipping import Shipping
from mtnas.space.rules import SpaceRules

TOLERANCE = 1e-4
SELECTIONS = 6
#: What a network is made elastic with: half is a whole factor, three quarters is not. Networks whose layers say nothing
#: new about sizes are left out.
FRACTIONS = {
    **dict.fromkeys((name for name in zoo.ZOO if name not in {"depthwise", "grouped", "shared"}), (0.75, 1.0)),
    "flatten": (0.5, 1.0),
    "residual": (0.5, 0.75),
    "resnet": (0.5, 0.75),
}
Pair = tuple[ElasticModel, ElasticGraph]


def picture(batch: int = 1, height: int = 32, width: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@functools.cache
def made(name: str) -> Pair:
    rules = SpaceRules(depth=name in depth_zoo.BLOCKS, resolution=FRACTIONS[name])
    prove = name == "attention"  # only the proof freezes heads that are written down as a number
    elastic = make_elastic(depth_zoo.network(name), picture(2), round_to=4, rules=rules, prove=prove)
    elastic.calibrate_with(lambda: [picture(4, seed=9)])
    return elastic, build_elastic_graph(
        elastic.model, elastic.example, elastic.groups, blocks=elastic.skippable, resized=elastic.resized
    )


@pytest.fixture(scope="module", params=FRACTIONS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return made(request.param)


@pytest.fixture(scope="module")
def deep() -> Pair:
    return made("residual")


def drawn(elastic: ElasticModel, graph: ElasticGraph) -> list[Selection]:
    """The whole network and the smallest at every size, archs, and arbitrary units with arbitrary blocks and sizes."""
    rng = generator(0, "sizes")
    whole = [Selection.of({}, (), size) for size in graph.sizes]
    archs = [elastic.selection(elastic.space.sample(rng)) for _ in range(SELECTIONS // 2)]
    return [*whole, elastic.selection(elastic.space.smallest), *archs, *(random_selection(graph, rng) for _ in archs)]


def test_every_cut_is_the_extracted_module(pair: Pair) -> None:
    elastic, graph = pair
    image = picture(seed=4)
    assert graph.sizes == elastic.inputs.sizes and graph.sizes
    full = {task: tuple(output.shape) for task, output in elastic.run(image).items()}
    for selection in drawn(elastic, graph):
        statistics = elastic.statistics(selection)
        small = elastic.extract(selection, statistics=statistics)
        with torch.no_grad():
            expected = small(image)
        arrays = {name: tensor.numpy() for name, tensor in statistics.items()}
        state = {name: tensor.numpy() for name, tensor in small.state_dict().items()}
        for given, fold in ((None, True), (state, False)):
            model = graph.cut(selection, state=given, statistics=arrays, fold_bn=fold)
            found = run_model(model, image.numpy())
            for task, output in expected.items():
                assert found[task].shape == tuple(output.shape) == full[task]
                assert relative_error(found[task], output.numpy()) <= TOLERANCE, (task, selection)


def test_counts_are_those_of_torch_and_of_the_file(pair: Pair) -> None:
    elastic, graph = pair
    for selection in drawn(elastic, graph)[::2]:
        check_counts(elastic, graph, selection)


def test_features_are_those_of_the_file(pair: Pair) -> None:
    """Same names at every size; what only a smaller size has is nowhere lost, the resizes among it."""
    elastic, graph = pair
    assert len(set(graph.feature_names)) == len(graph.feature_names)
    for selection in drawn(elastic, graph)[: len(graph.sizes) + 2]:
        named = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        found = describe(graph.cut(selection))
        assert {name: named.get(name) for name in found} == pytest.approx(found)
        assert all(named[name] == 0.0 for name in named.keys() - found.keys())
        assert named["total/macs"] == graph.counts(selection).macs


def test_work_shrinks_and_traffic_of_the_resizes_is_counted(deep: Pair) -> None:
    _elastic, graph = deep
    full = dict(zip(graph.feature_names, graph.features(Selection.of({})).tolist(), strict=True))
    for size in graph.sizes:
        small = dict(zip(graph.feature_names, graph.features(Selection.of({}, (), size)).tolist(), strict=True))
        share = math.prod(size) / math.prod(graph.input_shape[2:])
        assert small["total/macs"] == pytest.approx(share * full["total/macs"], rel=0.02)
        assert small["total/weight_bytes"] == full["total/weight_bytes"]
        kind = "pool" if size == (16, 32) else "resize"
        moved = [value for name, value in small.items() if name.startswith(f"move/{kind}") and name.endswith("/bytes")]
        assert sum(moved) >= 4 * 3 * math.prod(graph.input_shape[2:])  # the image at least is read once


def test_parts_and_subsets_of_a_smaller_network(deep: Pair) -> None:
    """The resize of the image belongs to all tasks, that of an output to its own."""
    elastic, graph = deep
    selection = Selection.of({}, (), (24, 48))
    cut = graph.cut(selection)
    parts = {part.tasks: part for part in count_parts(cut)}
    assert set(parts) == {elastic.tasks, *((task,) for task in elastic.tasks)}
    assert sum(part.macs for part in parts.values()) == graph.counts(selection).macs
    image = picture(seed=6).numpy()
    whole = run_model(cut, image)
    for task in elastic.tasks:
        assert parts[task,].moved_bytes >= whole[task].nbytes
        alone = run_model(keep_outputs(cut, [task]), image)
        assert list(alone) == [task] and np.array_equal(alone[task], whole[task])
    for other in drawn(elastic, graph)[::3]:
        check_answering(elastic, graph, other, picture(seed=6))


def test_another_camera_keeps_the_share(deep: Pair) -> None:
    """At twice the image's size a selection of half the size runs at what was the full one."""
    elastic, graph = deep
    image = picture(1, 64, 128, seed=5)
    for size in graph.sizes:
        selection = Selection.of({}, elastic.skippable, size)
        statistics = elastic.statistics(selection)
        with torch.no_grad():
            expected = elastic.extract(selection, statistics=statistics)(image)
        arrays = {name: tensor.numpy() for name, tensor in statistics.items()}
        found = run_model(graph.cut(selection, statistics=arrays, input_size=(64, 128)), image.numpy())
        for task, output in expected.items():
            assert relative_error(found[task], output.numpy()) <= TOLERANCE
    twice = graph.at_input_size((64, 128))
    assert twice.sizes == graph.sizes
    half = twice.counts(Selection.of({}, (), (16, 32))).macs
    assert half == pytest.approx(graph.counts(Selection.of({})).macs, rel=0.02)
    assert graph.at_input_size((48, 96)).sizes == ((16, 32),)  # three quarters of 48 are 36, no whole strides of 8


def test_saved_and_loaded_with_its_sizes(deep: Pair, tmp_path: Path) -> None:
    elastic, graph = deep
    graph.save(tmp_path)
    loaded = ElasticGraph.load(tmp_path)
    assert loaded.sizes == graph.sizes and loaded.feature_names == graph.feature_names
    for size in graph.sizes:
        selection = Selection.of({}, elastic.skippable[:1], size)
        assert loaded.cut(selection).SerializeToString() == graph.cut(selection).SerializeToString()
    record = read_json(tmp_path / PLAN_FILE)
    resized = record.pop("resized")  # as files were before sizes
    write_json(tmp_path / PLAN_FILE, record)
    old = ElasticGraph.load(tmp_path)
    assert old.counts(Selection.of({})) == graph.counts(Selection.of({}))
    with pytest.raises(SpaceError, match="a space that has resolution"):
        old.cut(Selection.of({}, (), graph.sizes[0]))
    write_json(tmp_path / PLAN_FILE, {**record, "resized": resized})
    (tmp_path / resized[0]["file"]).write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="written with this plan"):
        ElasticGraph.load(tmp_path)


def test_the_device_puts_every_size_together(deep: Pair) -> None:
    """Arrays travel once, whatever size a network runs at."""
    elastic, graph = deep
    shipping = Shipping(graph)
    base = Base(shipping.base)
    whole = len(graph.cut(Selection.of({})).SerializeToString())
    for selection in drawn(elastic, graph):
        request = shipping.request(selection)
        recipe = request.recipe()
        assert cut_bytes(base, recipe) == request.onnx_bytes()
    for size in graph.sizes:
        assert len(shipping.recipe(Selection.of({}, (), size))) < 0.25 * whole


def test_statistics_of_the_full_size_are_not_called_its_own(deep: Pair) -> None:
    elastic, graph = deep
    selection = Selection.of({}, (), (16, 32))
    own = {name: tensor.numpy() for name, tensor in elastic.statistics(selection).items()}
    for model, kind in ((graph.cut(selection), "full"), (graph.cut(selection, statistics=own), "selection")):
        told = {prop.key: prop.value for prop in model.metadata_props}
        assert told == {"mtnas.selection": selection.id, "mtnas.statistics": kind}


def test_an_unknown_size_is_refused(deep: Pair) -> None:
    with pytest.raises(SpaceError, match="one of 16x32, 24x48"):
        deep[1].cut(Selection.of({}, (), (20, 40)))


class Windows(nn.Module):
    """Pooled to a fixed grid: torch runs at any size, the exporter's graph cannot be followed where windows overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = zoo.conv_bn(3, 8, 3, 2)
        self.label = nn.Linear(8 * 4 * 4, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"label": self.label(torch.nn.functional.adaptive_avg_pool2d(self.stem(image), (4, 4)).flatten(1))}


def test_what_torch_runs_and_the_graph_does_not_is_told() -> None:
    elastic = make_elastic(Windows().eval(), picture(2), round_to=4, rules=SpaceRules(resolution=(0.7,)), prove=False)
    assert elastic.inputs.sizes == ((22, 44),)
    with pytest.raises(ModelError, match=r"computes at 22x44[\s\S]*leave this size out of `resolution`"):
        build_elastic_graph(elastic.model, elastic.example, elastic.groups, resized=elastic.resized)
