"""Counts against formulas worked out by hand, on paper-sized networks."""

from __future__ import annotations

import graph_toy
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.groups import ChannelGroup, Member, Selection
from mtnas.graph.branches import tensor_branches
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph, StateNames
from mtnas.graph.features import round_up

HIDDEN, SIDE = 20, 8


def two_convs() -> ElasticGraph:
    """image (3,8,8) -> conv 3x3 stride 2 (20) -> BN -> Relu -> two heads of 1x1 (2 and 5 channels)."""
    rng = np.random.default_rng(0)
    arrays = {
        "body.weight": rng.standard_normal((HIDDEN, 3, 3, 3)).astype(np.float32),
        "norm.weight": np.ones(HIDDEN, np.float32),
        "norm.bias": np.zeros(HIDDEN, np.float32),
        "norm.running_mean": np.zeros(HIDDEN, np.float32),
        "norm.running_var": np.ones(HIDDEN, np.float32),
        "a.weight": rng.standard_normal((2, HIDDEN, 1, 1)).astype(np.float32),
        "a.bias": np.zeros(2, np.float32),
        "b.weight": rng.standard_normal((5, HIDDEN, 1, 1)).astype(np.float32),
    }
    norm = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    nodes = [
        helper.make_node("Conv", ["image", "body.weight"], ["x"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["x", *norm], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Conv", ["z", "a.weight", "a.bias"], ["a"]),
        helper.make_node("Conv", ["z", "b.weight"], ["b"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, SIDE, SIDE])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, c, 4, 4]) for n, c in (("a", 2), ("b", 5))]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "toy", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    units = tuple((u,) for u in range(HIDDEN))
    members = [Member("body.weight", 0, units, "out"), *(Member(name, 0, units, "norm") for name in norm)]
    members += [Member("a.weight", 1, units, "in"), Member("b.weight", 1, units, "in")]
    groups = [ChannelGroup("body", HIDDEN, tuple(members), ("a", "b"))]
    learned = tuple(name for name in arrays if "running" not in name)
    return ElasticGraph(model, groups, StateNames(learned, tuple(arrays), {}))


@pytest.mark.parametrize("width", [1, 7, 16, 20])
def test_closed_forms(width: int) -> None:
    graph, selection = two_convs(), Selection.prefix({"body": width})
    counts = graph.counts(selection)
    places = 4 * 4
    assert counts.branches["shared"].macs == places * width * 3 * 9
    assert counts.branches["a"].macs == places * width * 2
    assert counts.branches["b"].macs == places * width * 5
    assert counts.branches["shared"].params == width * 27 + 2 * width
    assert counts.branches["a"].params == width * 2 + 2
    assert counts.branches["b"].params == width * 5
    assert list(counts.branches) == ["shared", "a", "b"]
    folded = width * 27 + width + width * 2 + 2 + width * 5
    assert counts.size_mb == pytest.approx(folded * 4 / 1e6)
    # Fullest moment: the image beside the first map, or that map beside both outputs.
    image, hidden, outputs = 3 * SIDE * SIDE, width * places, (2 + 5) * places
    assert counts.activation_peak_mb == pytest.approx(4 * max(image + hidden, hidden + outputs) / 1e6)
    assert counts.to_json()["branches"]["a"] == {"macs": places * width * 2, "params": width * 2 + 2}


@pytest.mark.parametrize("width", [3, 12, 16, 17, 20])
def test_features_round_channels_up(width: int) -> None:
    graph = two_convs()
    named = dict(zip(graph.feature_names, graph.features(Selection.prefix({"body": width})), strict=True))
    places, blocks = 16, -(-width // 16) * 16
    assert named["const"] == 1
    assert named["layer/body/macs16"] == places * 27 * blocks
    assert named["branch/shared/macs16"] == named["class/conv3x3s2@/2/macs16"] == named["layer/body/macs16"]
    inner = blocks if width >= 16 else width
    assert named["layer/a/macs16"] == named["layer/b/macs16"] == places * 16 * inner
    assert named["class/conv1x1@/2/macs"] == places * width * 7
    assert named["total/weight_bytes"] == 4 * (width * 27 + width + 7 * width + 2)
    assert "move/elementwise@/2/bytes16" not in named  # the Relu runs inside the convolution


def test_round_up() -> None:
    assert round_up(np.array([0, 1, 15, 16, 17]), 16).tolist() == [0, 16, 16, 16, 32]


def test_branches_follow_reachability() -> None:
    graph = two_convs()
    home = tensor_branches(graph.full_model().graph)
    assert home["body.weight"] == home["norm.weight"] == home["z"] == home["image"] == "shared"
    assert home["a.weight"] == home["a"] == "a" and home["b.weight"] == "b"


def test_a_network_with_one_output_is_one_branch() -> None:
    graph = two_convs().full_model()
    del graph.graph.output[1:], graph.graph.node[4:], graph.graph.initializer[7:]
    alone = ElasticGraph(graph, (), StateNames(("body.weight", "a.weight", "a.bias"), (), {}))
    counts = alone.counts(Selection.of({}))
    assert list(counts.branches) == ["a"] and counts.branches["a"].macs == counts.macs


def test_the_hard_toy_counts_as_its_file_does() -> None:
    graph = build_elastic_graph(graph_toy.toy(), graph_toy.image(), graph_toy.toy_groups())
    for widths in ({}, {"stem": 3, "mixed": 1}, {"twin": 5, "hidden": 2}, {"mixed": 3, "hidden": 1, "stem": 9}):
        selection = Selection.prefix(widths)
        counts, file = graph.counts(selection), count_model(graph.cut(selection))
        assert counts.macs == file.macs
        assert counts.size_mb == pytest.approx(file.size_mb, rel=1e-9)
        assert counts.activation_peak_mb == pytest.approx(file.activation_peak_mb, rel=1e-9)
        small = graph_toy.small_toy(graph_toy.toy(), selection)
        assert counts.params == sum(parameter.numel() for parameter in small.parameters())


def test_count_model_reads_matmul_gemm_and_open_batches() -> None:
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["x"]),
        helper.make_node("Flatten", ["x"], ["y"]),
        helper.make_node("Gemm", ["y", "v"], ["z"], transB=1),
    ]
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), n) for n, shape in (("w", (6, 4)), ("v", (3, 20)))]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 5, 6])
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [image], [output], weights)
    counted = count_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert counted.macs == 5 * 6 * 4 + 20 * 3
    assert counted.weights == 24 + 60
    assert counted.activation_peak_mb == pytest.approx(4 * (30 + 20) / 1e6)
