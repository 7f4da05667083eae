"""Labels follow channels through every kind of operator, and what could not be cut correctly is refused."""

from __future__ import annotations

from collections.abc import Sequence

import graph_toy
import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph, StateNames
from mtnas.graph.fold import Fold, apply_fold
from mtnas.graph.follow import RULES
from mtnas.graph.labels import BATCH, FIXED, Units
from mtnas.graph.rows import RowTable, width_vector
from mtnas.graph.sanitise import is_exact_scale

C = 8


def tiny(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray], groups: Sequence[ChannelGroup]
) -> ElasticGraph:
    """image (2,3,4,4) -> conv `w` (8 channels, tensor x) -> nodes -> y (2,5,4,4)."""
    full = {"w": np.ones((C, 3, 1, 1), np.float32), "v": np.ones((5, C, 1, 1), np.float32), **arrays}
    first = helper.make_node("Conv", ["image", "w"], ["x"])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(array, name) for name, array in full.items()]
    graph = helper.make_graph([first, *nodes], "tiny", [image], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    names = tuple(name for name, array in full.items() if array.dtype == np.float32)
    return ElasticGraph(model, groups, StateNames(names, names, {}))


def group(*members: tuple[str, int]) -> ChannelGroup:
    return ChannelGroup("g", C, tuple(graph_toy.plain(name, axis, C) for name, axis in members), ("y",))


LAST = helper.make_node("Conv", ["z", "v"], ["y"])


def test_group_that_forgets_a_consumer_is_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["z"]), LAST]
    tiny(nodes, {}, [group(("w", 0), ("v", 1))])
    with pytest.raises(ModelError, match="channels that shrink together wherever they meet"):
        tiny(nodes, {}, [group(("w", 0))])


def test_group_that_meets_a_constant_of_its_size_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "offset"], ["z"]), LAST]
    offset = {"offset": np.ones((C, 1, 1), np.float32)}
    tiny(nodes, offset, [group(("w", 0), ("v", 1), ("offset", 0))])
    with pytest.raises(ModelError, match="wherever they meet"):
        tiny(nodes, offset, [group(("w", 0), ("v", 1))])


def test_group_that_reaches_an_output_is_refused() -> None:
    with pytest.raises(ModelError, match="reaches output 'y'"):
        tiny([helper.make_node("Relu", ["x"], ["y"])], {}, [group(("w", 0))])


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (helper.make_node("Gather", ["x", "order"], ["z"], axis=1), "picked by index"),
        (helper.make_node("Det", ["x"], ["z"]), "Det"),
        (helper.make_node("Pad", ["x", "pads"], ["z"]), "resized here"),
    ],
)
def test_operators_that_channels_cannot_be_followed_through(node: onnx.NodeProto, why: str) -> None:
    arrays = {"order": np.arange(C)[::-1].copy(), "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0])}
    last = helper.make_node("ReduceSum", ["z"], ["y"])
    with pytest.raises(ModelError, match=why):
        tiny([node, last], arrays, [group(("w", 0))])


def test_slices_of_channels_end_where_their_channels_end() -> None:
    bounds = {"from": np.array([2]), "to": np.array([C]), "axis": np.array([1])}
    arrays = {**bounds, "v": np.ones((5, C - 2, 1, 1), np.float32)}
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], ["z"]), LAST]
    members = (graph_toy.plain("w", 0, 4, start=2), graph_toy.plain("v", 1, 4))
    graph = tiny(nodes, arrays, [ChannelGroup("g", 4, members, ("y",))])
    cut = graph.cut(Selection.of({"g": [3]}))
    values = {t.name: numpy_helper.to_array(t).tolist() for t in cut.graph.initializer if t.data_type == 7}
    assert sorted(map(tuple, values.values())) == [(1,), (1,), (2,), (5,)]  # axis, step, start, end: 2 + 1 + 2


def test_masks_and_lengths_agree() -> None:
    groups = graph_toy.toy_groups()
    units = Units(groups)
    rows = RowTable(units)
    shapes = {name: tuple(t.shape) for name, t in graph_toy.toy().state_dict().items()}
    axes = units.parameter_axes(shapes)
    selection = Selection.of({"stem": [0, 5, 9], "mixed": [1], "twin": range(4)})
    mask, expected, found = units.mask(selection), [], []
    for labelled in axes.values():
        for labels in labelled.values():
            expected.append(int(mask[labels].sum()))
            found.append(rows.length(labels))
    lengths = rows.matrix_RG @ width_vector(units, selection)
    assert lengths[found].tolist() == expected
    assert mask[FIXED] and mask[:BATCH].tolist() == [True, False]


def test_units_of_different_size_are_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["z"]), LAST]
    rows = ((0,), (1, 2))
    members = tuple(type(m)(m.name, m.axis, rows, m.role) for m in group(("w", 0), ("v", 1)).members)
    graph = tiny(nodes, {}, [ChannelGroup("g", 2, members, ("y",))])
    assert graph.cut(Selection.of({"g": [0]})).graph.initializer[0].dims[0] == C - 2
    with pytest.raises(ModelError, match="different numbers of channels"):
        graph.counts(Selection.of({}))


def test_frozen_groups_do_not_count_as_labels() -> None:
    frozen = ChannelGroup("g", C, group(("w", 0)).members, ("y",), frozen="is output")
    assert tiny([helper.make_node("Relu", ["x"], ["y"])], {}, [frozen]).counts(Selection.of({})).params == C * 3


def test_every_operator_rule_is_a_known_operator() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(RULES) <= known


# --- folding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, groups=2),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.ConvTranspose2d(6, 8, 2, 2),
        nn.ConvTranspose2d(6, 8, 2, 2, groups=2, bias=False),
        nn.ConvTranspose2d(6, 6, 2, 2, groups=6),
        nn.Linear(6, 8),
    ],
)
def test_folding_is_the_two_layers_in_one(layer: nn.Module) -> None:
    linear, transposed = isinstance(layer, nn.Linear), isinstance(layer, nn.ConvTranspose2d)
    assert isinstance(layer.weight, Tensor)
    size = 8 if linear else int(layer.out_channels)  # type: ignore[arg-type]
    norm = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(size, eps=1e-3).eval()
    rng = torch.Generator().manual_seed(0)
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.copy_(torch.randn(size, generator=rng))
        norm.running_var.copy_(torch.rand(size, generator=rng) + 0.1)
    x = torch.randn((4, 6) if linear else (2, 6, 5, 5), generator=rng)
    arrays = {f"n.{k}": t.detach().numpy() for k, t in norm.state_dict().items()}
    arrays |= {k: t.detach().numpy() for k, t in layer.state_dict().items()}
    affine = ("n.weight", "n.bias", "n.running_mean", "n.running_var")
    bias = "bias" if layer.bias is not None else ""
    fold = Fold("weight", bias, affine, 1e-3, 1 if transposed else 0, transposed, "weight", "bias", "")
    weight, shift = (torch.from_numpy(array) for array in apply_fold(fold, arrays))
    if linear:
        found = F.linear(x, weight, shift)
    elif transposed:
        found = F.conv_transpose2d(x, weight, shift, layer.stride, groups=layer.groups)  # type: ignore[arg-type]
    else:
        found = F.conv2d(x, weight, shift, groups=layer.groups)  # type: ignore[arg-type]
    assert torch.allclose(found, norm(layer(x)), rtol=1e-4, atol=1e-4)


class KeptNorm(nn.Module):
    """The convolution is read twice, so its batch-norm cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.conv(image)
        return {"y": self.last(x + self.norm(x))}


def test_batch_norm_after_a_tensor_read_twice_stays() -> None:
    graph = build_elastic_graph(KeptNorm().eval(), torch.zeros(1, 3, 8, 8), ())
    assert [n.op_type for n in graph.cut(Selection.of({})).graph.node].count("BatchNormalization") == 1


# --- building ---------------------------------------------------------------------------------------------------------


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> object:
        y = self.conv(image)
        if self.kind == "tensor":
            return y
        if self.kind == "name":
            return {"shared": y}
        return {"y": y if y.sum() > 0 else -y}


@pytest.mark.parametrize(
    ("kind", "match"), [("tensor", "a dict of task name"), ("name", "another task name"), ("flow", "torch.onnx.export")]
)
def test_models_that_break_the_contract(kind: str, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        build_elastic_graph(Wrong(kind).eval(), torch.zeros(1, 3, 4, 4), ())


@pytest.mark.parametrize(("size", "target", "exact"), [(4, 8, True), (8, 15, True), (15, 8, False), (7, 7, True)])
def test_scales_are_used_only_where_they_are_exact(size: int, target: int, exact: bool) -> None:
    assert is_exact_scale(size, target) is exact
