"""Input sizes measured: every runtime and precision runs the resizes alike, and one predictor knows all sizes."""

from __future__ import annotations

import depth_zoo
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from run_once import error, run

from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.measure.predictor import fit
from mtnas.quantize.check import int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS
from mtnas.quantize.ptq import quantize_onnx
from mtnas.quantize.timing import timing_copy
from mtnas.space.rules import SpaceRules

NETWORKS, HELD_OUT = 48, 16
#: A whole factor (the mean of blocks), and one that is not (bilinear).
SIZES = ((32, 64), (48, 96))
Network = tuple[ElasticModel, ElasticGraph]


def picture(seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 128, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> Network:
    rules = SpaceRules(resolution=(0.5, 0.75, 1.0))
    elastic = make_elastic(depth_zoo.network("resnet"), picture(), round_to=4, rules=rules, prove=False)
    assert elastic.inputs.sizes == SIZES
    elastic.calibrate_with(lambda: [picture(9, 4)])
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups, resized=elastic.resized)


def cut(network: Network, selection: Selection) -> onnx.ModelProto:
    elastic, graph = network
    return graph.cut(selection, statistics={k: v.numpy() for k, v in elastic.statistics(selection).items()})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
def test_every_runtime_resizes_alike(network: Network, runtime: str, size: tuple[int, int]) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    selection, image = Selection.of({}, (), size), picture(3)
    with torch.no_grad():
        expected = network[0].extract(selection)(image)
    found = run(runtime, cut(network, selection), image.numpy())
    for task, output in expected.items():
        assert error(found[task], output.numpy()) <= 1e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_int8_runs_at_every_size(network: Network, dialect: str, size: tuple[int, int]) -> None:
    """The outputs' resize stays in float, as the last upsampling always does; timing copies are built like that."""
    model, image = cut(network, Selection.of({}, (), size)), picture(3).numpy()
    expected = run("onnxruntime", model, image)
    quantized = quantize_onnx(model, [picture(seed).numpy() for seed in range(4)], QuantizeConfig(dialect=dialect))
    runtime = "onnxruntime" if dialect == "tensorrt" else DIALECTS[dialect].runtime
    if runtime == "openvino":
        pytest.importorskip("openvino")
    found = run(runtime, quantized, image)
    assert max(error(found[task], output) for task, output in expected.items()) < 0.2
    last = {
        output.name: next(n for n in quantized.graph.node if output.name in n.output) for output in model.graph.output
    }
    assert {node.op_type for node in last.values()} == {"Resize"}
    copy = timing_copy(model, dialect)
    assert sorted(node.op_type for node in copy.graph.node) == sorted(node.op_type for node in quantized.graph.node)
    if dialect == "onnxruntime-x64":
        assert int8_report(quantized).int8_nodes == int8_report(timing_copy(model, dialect)).int8_nodes > 10


def test_the_arrays_of_all_sizes_are_the_same(network: Network) -> None:
    graph = network[1]
    full = {t.name: numpy_helper.to_array(t) for t in graph.cut(Selection.of({})).graph.initializer}
    for size in SIZES:
        small = graph.cut(Selection.of({}, (), size)).graph.initializer
        weights = [tensor for tensor in small if tensor.name.startswith(("encoder.", "heads."))]
        assert weights and all(np.array_equal(numpy_helper.to_array(t), full[t.name]) for t in weights)


def test_networks_of_all_sizes_are_predicted_by_one_fit(network: Network) -> None:
    """Work and traffic cost by blocks of 16 channels; the last networks are held out, whatever their size."""
    elastic, graph = network
    rng = generator(0, "sizes")
    archs = [elastic.space.largest, elastic.space.smallest, *(elastic.space.sample(rng) for _ in range(2 * NETWORKS))]
    selections = list(dict.fromkeys(elastic.selection(arch) for arch in archs))[:NETWORKS]
    described = [describe(graph.cut(selection)) for selection in selections]
    ms_N = np.array([0.02 + 1e-6 * found["total/macs16"] + 4e-7 * found["total/bytes16"] for found in described])
    features_NF = np.array([graph.features(selection) for selection in selections])
    away = list(range(NETWORKS - HELD_OUT, NETWORKS))
    assert {selections[i].size for i in away} == {None, *SIZES}
    predictor = fit(features_NF, ms_N, 0, held_out=away, names=graph.feature_names)
    errors_N = np.abs(predictor.values(features_NF[away]) / ms_N[away] - 1.0)
    assert errors_N.max() < 0.05
    assert predictor.held_out.spearman > 0.99
