"""Every operator that is translated to torch computes what onnxruntime computes; what is not translated is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mtnas.device.torch_graph import OnnxNetwork, UnknownOperator
from mtnas.device.torch_operators import OPERATORS

X = (1, 4, 6, 6)


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def case(kind: str, *constants: Any, outputs: int = 1, image: np.ndarray | None = None, **attributes: Any) -> bytes:
    """One operator on an image; constants are further inputs, None where one is left out."""
    image = array(*X) if image is None else image
    names = ["image", *("" if value is None else f"k{i}" for i, value in enumerate(constants))]
    weights = [numpy_helper.from_array(np.asarray(v), f"k{i}") for i, v in enumerate(constants) if v is not None]
    results = [f"out{i}" for i in range(outputs)]
    node = helper.make_node(kind, names if kind not in {"Constant"} else [], results, name="node", **attributes)
    value = helper.make_tensor_value_info("image", helper.np_dtype_to_tensor_dtype(image.dtype), image.shape)
    graph = helper.make_graph([node], "case", [value], [onnx.ValueInfoProto(name=name) for name in results], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model).SerializeToString()


def both(model: bytes, image: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs of torch and of onnxruntime."""
    network = OnnxNetwork(model)
    with torch.no_grad():
        found = network.translate((image.shape,))(torch.from_numpy(image))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [value.numpy() for value in found], session.run(None, {"image": image})


UNARY = "Abs Ceil Celu Cos Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Mish Neg Reciprocal Relu Round"
UNARY += " Selu Sigmoid Sign Sin Softplus Softsign Tanh Gelu GlobalAveragePool GlobalMaxPool Softmax LogSoftmax"
BINARY = "Add Sub Mul Div Max Min Mean Sum Equal Greater GreaterOrEqual Less LessOrEqual PRelu"
REDUCED = "L1 L2 Max Mean Min Sum SumSquare"
W = array(8, 2, 3, 3)

CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    **{kind: (kind, (), {}) for kind in UNARY.split()},
    **{kind: (kind, (array(1, 4, 1, 1, seed=3),), {}) for kind in BINARY.split()},
    "Gelu tanh": ("Gelu", (), {"approximate": "tanh"}),
    "LeakyRelu 0.3": ("LeakyRelu", (), {"alpha": 0.3}),
    "Softmax channels": ("Softmax", (), {"axis": 1}),
    "Pow": ("Pow", (np.float32(2),), {}),
    "MatMul": ("MatMul", (array(6, 5),), {}),
    "Clip": ("Clip", (np.float32(-0.5), np.float32(0.5)), {}),
    "Clip above": ("Clip", (None, np.float32(0.5)), {}),
    "Conv grouped": ("Conv", (W, array(8)), {"group": 2, "pads": [1, 1, 1, 1]}),
    "Conv strided, dilated": ("Conv", (W,), {"group": 2, "strides": [2, 1], "dilations": [1, 2], "pads": [0, 2, 0, 2]}),
    "Conv uneven": ("Conv", (W,), {"group": 2, "pads": [0, 0, 1, 2]}),
    "Conv same": ("Conv", (W,), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv same lower": ("Conv", (W,), {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "ConvTranspose": ("ConvTranspose", (array(4, 2, 3, 3), array(2)), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "ConvTranspose wide": ("ConvTranspose", (array(4, 2, 2, 2),), {"strides": [2, 2], "output_padding": [1, 1]}),
    "BatchNormalization": ("BatchNormalization", tuple(np.abs(array(4, seed=i)) for i in range(4)), {}),
    "InstanceNormalization": ("InstanceNormalization", (array(4), array(4, seed=1)), {}),
    "GroupNormalization": ("GroupNormalization", (array(4), array(4, seed=1)), {"num_groups": 2}),
    "LayerNormalization": ("LayerNormalization", (array(6), array(6, seed=1)), {"axis": -1}),
    "MaxPool": ("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "MaxPool uneven": ("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "MaxPool ceil": ("MaxPool", (), {"kernel_shape": [2, 2], "strides": [4, 4], "ceil_mode": 1}),
    "AveragePool": ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "AveragePool counted": ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    "Resize nearest": ("Resize", (None, np.float32([1, 1, 2, 2])), {}),
    "Resize floor": (
        "Resize",
        (None, np.float32([1, 1, 2, 2])),
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "Resize down": ("Resize", (None, None, np.int64([1, 4, 3, 4])), {"nearest_mode": "round_prefer_ceil"}),
    "Resize linear": ("Resize", (None, None, np.int64([1, 4, 9, 11])), {"mode": "linear"}),
    "Resize corners": (
        "Resize",
        (None, None, np.int64([1, 4, 9, 11])),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "Resize cubic": ("Resize", (None, None, np.int64([1, 4, 12, 12])), {"mode": "cubic"}),
    "Cast": ("Cast", (), {"to": TensorProto.INT64}),
    "Concat": ("Concat", (array(1, 2, 6, 6),), {"axis": 1}),
    "Split equal": ("Split", (), {"axis": 2, "num_outputs": 3}),
    "Split sizes": ("Split", (np.int64([1, 3]),), {"axis": 1}),
    "Slice": ("Slice", (np.int64([1, -4]), np.int64([9, -1]), np.int64([1, 3]), np.int64([1, 2])), {}),
    "Transpose": ("Transpose", (), {"perm": [0, 2, 3, 1]}),
    "Transpose all": ("Transpose", (), {}),
    "Reshape": ("Reshape", (np.int64([0, -1, 6]),), {}),
    "Flatten": ("Flatten", (), {"axis": 2}),
    "Squeeze": ("Squeeze", (np.int64([0]),), {}),
    "Unsqueeze": ("Unsqueeze", (np.int64([-1, 1]),), {}),
    "Expand": ("Expand", (np.int64([3, 1, 6, 6]),), {}),
    "Tile": ("Tile", (np.int64([1, 2, 1, 3]),), {}),
    "Gather": ("Gather", (np.int64([[0, -1], [2, 1]]),), {"axis": 1}),
    "Gather one": ("Gather", (np.int64(2),), {"axis": 1}),
    "Pad": ("Pad", (np.int64([0, 0, 1, 2, 0, 1, 0, 3]), np.float32(0.7)), {}),
    "Pad axes": ("Pad", (np.int64([1, 2]), None, np.int64([3])), {}),
    "Pad reflect": ("Pad", (np.int64([0, 0, 1, 2, 0, 0, 0, 3]),), {"mode": "reflect"}),
    "Shape": ("Shape", (), {"start": 1}),
    "DepthToSpace": ("DepthToSpace", (), {"blocksize": 2}),
    "DepthToSpace columns": ("DepthToSpace", (), {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", (), {"blocksize": 2}),
    **{f"Reduce{k}": (f"Reduce{k}", (np.int64([2, -1]),), {}) for k in REDUCED.split()},
    "ReduceMean flat": ("ReduceMean", (np.int64([1]),), {"keepdims": 0}),
    "ReduceSum all": ("ReduceSum", (), {}),
    "ArgMax": ("ArgMax", (), {"axis": 1}),
    "ArgMin": ("ArgMin", (), {"axis": 1, "keepdims": 0}),
    "QuantizeLinear": ("QuantizeLinear", (np.float32(0.031), np.int8(3)), {}),
    "QuantizeLinear channels": ("QuantizeLinear", (np.abs(array(4)) + 0.01, np.zeros(4, np.uint8)), {"axis": 1}),
    "Constant": ("Constant", (), {"value": numpy_helper.from_array(array(2, 2))}),
    "Dropout": ("Dropout", (), {}),
}
SPLITS = {"Split equal": 3, "Split sizes": 2}


@pytest.mark.parametrize("name", list(CASES))
def test_an_operator_computes_what_onnxruntime_computes(name: str) -> None:
    kind, constants, attributes = CASES[name]
    image = np.abs(array(*X)) + 0.1 if kind == "Pow" else array(*X)
    found, expected = both(case(kind, *constants, outputs=SPLITS.get(name, 1), **attributes), image)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_integers_logic_and_choice() -> None:
    """Mask, cast, integer division and remainder in one graph."""
    nodes = [
        helper.make_node("Greater", ["image", "zero"], ["above"]),
        helper.make_node("Not", ["above"], ["below"]),
        helper.make_node("Or", ["above", "below"], ["any"]),
        helper.make_node("And", ["above", "any"], ["same"]),
        helper.make_node("Xor", ["same", "below"], ["all"]),
        helper.make_node("Where", ["same", "image", "zero"], ["chosen"]),
        helper.make_node("Sqrt", ["chosen"], ["root"]),
        helper.make_node("Add", ["chosen", "one"], ["shifted"]),
        helper.make_node("Log", ["shifted"], ["logged"]),
        helper.make_node("Mul", ["logged", "hundred"], ["large"]),
        helper.make_node("Cast", ["large"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Div", ["whole", "seven"], ["quotient"]),
        helper.make_node("Mod", ["whole", "seven"], ["rest"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["filled"], value=numpy_helper.from_array(np.int64([4]))),
        helper.make_node("Add", ["rest", "filled"], ["sum"]),
    ]
    constants = {"zero": np.float32(0), "one": np.float32(1), "hundred": np.float32(100), "seven": np.int64(7)}
    constants["sizes"] = np.int64([6])
    outputs = ["root", "quotient", "sum", "all"]
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, X)
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "logic", [value], [onnx.ValueInfoProto(name=name) for name in outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found, expected = both(onnx.shape_inference.infer_shapes(model).SerializeToString(), array(*X))
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("flags", [{"transB": 1}, {"transA": 1, "alpha": 0.5, "beta": 2.0}, {}])
def test_matrix_products_with_factors(flags: dict[str, Any]) -> None:
    image, weight = array(3, 5), array(4, 5) if flags.get("transB") else array(3 if flags else 5, 4)
    bias = array(4)
    found, expected = both(case("Gemm", weight, bias, image=image, **flags), image)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


def test_integers_come_back_with_their_scale() -> None:
    image = np.arange(-8, 8, dtype=np.int8).reshape(1, 4, 4)
    model = case("DequantizeLinear", np.abs(array(4)), np.zeros(4, np.int8), image=image, axis=1)
    found, expected = both(model, image)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


def test_every_row_has_a_case() -> None:
    elsewhere = {"And", "ConstantOfShape", "Div", "Gemm", "Log", "Mod", "Not", "Or", "Sqrt", "Where", "Xor"}
    newer = {"Swish"}  # opset 24, which onnxruntime does not read yet everywhere
    assert set(OPERATORS) - {kind for kind, _, _ in CASES.values()} - elsewhere - newer == {"DequantizeLinear"}


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (lambda: case("NonZero"), "NonZero"),
        (lambda: case("MaxPool", outputs=2, kernel_shape=[2, 2]), "indices"),
        (lambda: case("Slice", np.int64([3]), np.int64([0]), np.int64([2]), np.int64([-1])), "negative step"),
        (lambda: case("Resize", None, np.float32([1, 1, 1.3, 1.3]), mode="linear"), "whole size"),
        (
            lambda: case("Resize", None, None, np.int64([1, 4, 3, 3]), mode="linear", antialias=1),
            "antialias",
        ),
    ],
)
def test_what_torch_would_compute_otherwise_is_refused_by_name(model: Any, part: str) -> None:
    with pytest.raises(UnknownOperator, match=part):
        OnnxNetwork(model()).translate((X,))


def test_shapes_are_fixed_when_translated_and_weights_are_shared() -> None:
    network = OnnxNetwork(case("Conv", W, group=2))
    small, large = network.translate((X,)), network.translate(((2, 4, 8, 8),))
    assert small.constant_0.data_ptr() == large.constant_0.data_ptr()
    with torch.no_grad():
        assert large(torch.zeros(2, 4, 8, 8))[0].shape == (2, 8, 6, 6)


def test_nodes_remember_where_they_came_from() -> None:
    graph = OnnxNetwork(case("Conv", W, group=2, pads=[0, 0, 1, 1])).translate((X,)).graph
    places = [node.meta["onnx"] for node in graph.nodes if node.op == "call_function"]
    assert places == [("node", "Conv", ("out0",))] * 2
