"""Features read off a finished file: the same as the table's, and what precision, input size and depth do to them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import zoo
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mtnas.elastic.model import make_elastic
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.features_file import describe, stack
from mtnas.graph.prove import random_selection
from mtnas.quantize.timing import timing_copy


def conv(source: str, name: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, f"{name}.weight"], [result], name=name, pads=[1, 1, 1, 1])


def chain(depth: int, side: int = 16, width: int = 20) -> onnx.ModelProto:
    """A stem, residual blocks (convolution, sum, ReLU), and two outputs: `near` after a convolution, `far` pooled."""
    nodes = [conv("image", "stem", "x0")]
    weights = {"stem.weight": (width, 3, 3, 3), "near.weight": (2, width, 3, 3)}
    for i in range(depth):
        weights[f"block{i}.weight"] = (width, width, 3, 3)
        nodes.append(conv(f"x{i}", f"block{i}", f"c{i}"))
        nodes.append(helper.make_node("Add", [f"c{i}", f"x{i}"], [f"s{i}"], name=f"sum{i}"))
        nodes.append(helper.make_node("Relu", [f"s{i}"], [f"x{i + 1}"], name=f"relu{i}"))
    nodes.append(conv(f"x{depth}", "near", "near"))
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{depth}"], ["far"], name="pool"))
    rng = np.random.default_rng(0)
    arrays = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, side, side))],
        [
            helper.make_tensor_value_info("near", TensorProto.FLOAT, (1, 2, side, side)),
            helper.make_tensor_value_info("far", TensorProto.FLOAT, (1, width, 1, 1)),
        ],
        arrays,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


ZOO = ("residual", "depthwise", "squeeze_excite", "unet", "flatten", "shared", "unusual")


@pytest.mark.parametrize("name", ZOO)
def test_a_cut_file_has_the_features_of_its_selection(name: str) -> None:
    elastic = make_elastic(zoo.build(name), zoo.image(), prove=False)
    graph: ElasticGraph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    for seed in range(3):
        selection = random_selection(graph, np.random.default_rng(seed))
        table = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        assert describe(graph.cut(selection)) == pytest.approx(table, rel=1e-12)


class ChannelsLast(nn.Module):
    """A block that computes with (B,H,W,C): LayerNorm, and linear layers that widen and narrow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.body = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 48), nn.GELU(), nn.Linear(48, 16))
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        return {"depth": self.depth(x + self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))}


@pytest.mark.parametrize(
    ("name", "place"), [("attention", "move/copy@tokens/bytes"), ("channels_last", "class/matmul@/2/macs")]
)
def test_a_place_does_not_depend_on_what_is_kept(name: str, place: str) -> None:
    """Heads x channels of a head, and width x channels, are no height x width."""
    network = ChannelsLast().eval() if name == "channels_last" else zoo.build(name)
    elastic = make_elastic(network, zoo.image())
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    for seed in range(6):
        selection = random_selection(graph, np.random.default_rng(seed))
        table = dict(zip(graph.feature_names, graph.features(selection).tolist(), strict=True))
        assert describe(graph.cut(selection)) == pytest.approx(table, rel=1e-12) and table[place] > 0


def test_a_sum_runs_inside_the_convolution_before_it() -> None:
    found = describe(chain(1))
    places, inner = 16 * 16, 20
    assert found["class/conv3x3+add@/1/macs"] == places * inner * inner * 9
    assert found["class/conv3x3+add@/1/macs16"] == places * 32 * 32 * 9
    assert found["move/add@/1/bytes"] == 4 * places * inner  # only the other side is read
    assert "move/elementwise@/1/bytes" not in found  # the ReLU is free


def test_a_block_left_out_is_not_there() -> None:
    short, long = describe(chain(1)), describe(chain(3))
    assert set(long) - set(short) == {"layer/block1/macs16", "layer/block2/macs16"}
    assert long["class/conv3x3+add@/1/macs"] == 3 * short["class/conv3x3+add@/1/macs"]
    names, rows_NF = stack([short, long])
    assert rows_NF[0, names.index("layer/block2/macs16")] == 0 < rows_NF[1, names.index("layer/block2/macs16")]


def test_input_sizes_share_their_features() -> None:
    small, large = describe(chain(2, side=16)), describe(chain(2, side=32))
    assert set(small) == set(large)
    assert large["class/conv3x3+add@/1/macs"] == 4 * small["class/conv3x3+add@/1/macs"]


@pytest.mark.parametrize("dialect", ["onnxruntime-x64", "openvino"])
def test_eight_bit_work_has_names_of_its_own(dialect: str) -> None:
    plain, copy = describe(chain(2)), describe(timing_copy(chain(2), dialect))
    assert copy["total.int8/macs"] == plain["total/macs"] and "total/macs" not in copy
    assert copy["layer/block1.int8/macs16"] == plain["layer/block1/macs16"]
    assert copy["move/convert@/1/bytes"] > 0  # the image arrives in float
    assert not {name for name in plain if name.startswith("move/convert")}


def test_a_branch_kept_in_float_keeps_its_names() -> None:
    plain = describe(chain(2))
    mixed = describe(timing_copy(chain(2), "openvino", float_branches=["near"]))
    assert mixed["branch/near/macs16"] == plain["branch/near/macs16"] and "branch/near.int8/macs16" not in mixed
    assert mixed["branch/shared.int8/macs16"] == plain["branch/shared/macs16"]
    assert mixed["total/macs"] + mixed["total.int8/macs"] == plain["total/macs"]
