"""Layers of matrix products are called after their modules, the same at every input size; nothing else is renamed."""

from __future__ import annotations

import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from mtnas.base.groups import Selection
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import make_elastic
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe
from mtnas.graph.naming import name_products

CHANNELS, HIDDEN = 16, 24


class Tokens(nn.Module):
    """Attention of one head over the positions of a map, then one linear layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 4, stride=4)
        self.query, self.value = nn.Linear(CHANNELS, HIDDEN), nn.Linear(CHANNELS, HIDDEN)
        self.back, self.twice = nn.Linear(HIDDEN, CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.depth = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        map_BCHW = self.stem(image_BCHW)
        x_BNC = map_BCHW.flatten(2).transpose(1, 2)
        query_BNC = self.query(x_BNC)
        weights_BNN = (query_BNC @ query_BNC.transpose(1, 2)).softmax(-1)
        x_BNC = self.twice(torch.relu(self.twice(self.back(weights_BNN @ self.value(x_BNC)))))
        return {"depth": self.depth(x_BNC.transpose(1, 2).unflatten(2, map_BCHW.shape[2:]))}


def graph(size: int) -> ElasticGraph:
    torch.manual_seed(0)
    return graph_of(make_elastic(Tokens().eval(), torch.randn(1, 3, size, size), round_to=4))


def layers(made: ElasticGraph) -> dict[str, float]:
    """Layer -> its multiply-adds in the largest network."""
    found = zip(made.feature_names, made.features(Selection.of({})), strict=True)
    return {name.split("/")[1]: float(value) for name, value in found if name.startswith("layer/")}


def test_products_have_the_names_of_their_modules_at_every_size() -> None:
    small, large = layers(graph(32)), layers(graph(48))
    assert list(small) == list(large)
    assert [name.partition("_")[0] for name in small] == [
        *("stem", "query", "matmul", "value", "matmul", "back", "twice", "depth")
    ]
    for found, positions in ((small, 64), (large, 144)):
        assert found["query"] == positions * CHANNELS * 32  # channels in blocks of 16
        assert found["back"] == positions * 32 * CHANNELS
        assert found["twice"] == 2 * positions * CHANNELS * CHANNELS  # one weight, read twice


def test_what_nobody_names_stays_as_it_is() -> None:
    """Neither a weight nor the exporter's notes: a graph from elsewhere is not touched."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["val_1"]),
        helper.make_node("Transpose", ["val_1"], ["val_2"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "val_2"], ["val_3"]),
        helper.make_node("Transpose", ["w.weight"], ["val_4"], perm=[1, 0]),
        helper.make_node("MatMul", ["val_3", "val_4"], ["w"]),
        helper.make_node("MatMul", ["w", "val_4"], ["y"]),
    ]
    shapes = [value("x", TensorProto.FLOAT, [4, 4])], [value("y", TensorProto.FLOAT, [4, 4])]
    weight = helper.make_tensor("w.weight", TensorProto.FLOAT, [4, 4], [0.0] * 16)
    proto = helper.make_model(helper.make_graph(nodes, "g", *shapes, [weight]))
    name_products(proto)
    assert [list(node.input) for node in proto.graph.node] == [
        ["x"],
        ["val_1"],
        ["x", "val_2"],
        ["w.weight"],
        ["val_3", "w_1"],  # a value is called `w` already
        ["w", "w_1"],
    ]
    assert [name for node in proto.graph.node for name in node.output] == ["val_1", "val_2", "val_3", "w_1", "w", "y"]


def test_a_cut_file_has_the_same_names() -> None:
    """Transposes are folded into its weights."""
    made = graph(32)
    found = [name for name in describe(made.cut(Selection.of({}))) if name.startswith("layer/")]
    assert sorted(found) == sorted(f"layer/{name}/macs16" for name in layers(made))
