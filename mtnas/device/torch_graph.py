"""An ONNX file as a torch.fx graph: one call per operator, weights as buffers, shapes fixed when it is translated.

Needs torch, onnx and numpy. Whatever depends on constants and shapes alone is computed once, while translating: sizes
of a resize, dequantized weights. The operators are in `torch_operators.py`. Source of the semantics: the operator pages
of the ONNX specification, opset 13 to 21.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence, Tuple

import numpy as np
import onnx
import torch
from torch import fx

from .inputs import Spec
from .torch_operators import OPERATORS

Shapes = Tuple[Tuple[int, ...], ...]


class UnknownOperator(ValueError):
    """The file holds what this translation does not know."""


class OnnxNetwork:
    """A parsed file: nodes, weights on one device, and what goes in and out."""

    def __init__(self, model: Any, device: str = "cpu", channels_last: bool = False) -> None:
        proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model)
        if not proto.graph.node:
            raise ValueError("this file holds no operator; is it an ONNX network?")
        unknown = sorted(
            {n.op_type for n in proto.graph.node if n.op_type not in OPERATORS or n.domain not in _DOMAINS}
        )
        if unknown:
            raise UnknownOperator("torch translates no operator " + ", ".join(unknown))
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.device, self.channels_last = device, channels_last
        self.nodes = list(proto.graph.node)
        self.weights = {name: _tensor(array, device) for name, array in stored.items()}
        self.inputs = [_spec(value) for value in proto.graph.input if value.name not in stored]
        self.outputs = [value.name for value in proto.graph.output]

    def translate(self, shapes: Shapes) -> fx.GraphModule:
        """The network for inputs of these shapes; its forward takes them in order and returns a tuple."""
        return _Translation(self, shapes).module()


class Step:
    """One ONNX node on its way into the graph: its inputs, its attributes, and `call` for what it becomes."""

    def __init__(self, node: Any, values: Sequence[Any], translation: _Translation) -> None:
        self.kind = node.op_type
        self.count = len(node.output)
        self.values = list(values)
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self._translation = translation

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; text as str, tensors as arrays."""
        value = self._attributes.get(name, default)
        if isinstance(value, bytes):
            return value.decode()
        return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value

    def given(self, index: int) -> Any:
        """An input, or None where it is left out."""
        return self.values[index] if index < len(self.values) else None

    def known(self, index: int, default: Any = None) -> Any:
        """An input that must be constant, as a list or a number; the default where it is left out."""
        value = self.given(index)
        if value is None:
            return default
        if not isinstance(value, torch.Tensor):
            raise UnknownOperator(self.kind + " with input " + str(index) + " computed at run time")
        return value.tolist() if value.numel() else default

    def shape(self, index: int) -> tuple[int, ...]:
        """Sizes of an input."""
        return tuple(int(size) for size in self._translation.example(self.values[index]).shape)

    def dtype(self, index: int) -> torch.dtype:
        """Element type of an input."""
        return self._translation.example(self.values[index]).dtype

    def constant(self, value: Any, dtype: Any = None) -> torch.Tensor:
        """A tensor that the graph holds."""
        return torch.as_tensor(value, dtype=dtype, device=self._translation.network.device)

    def call(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The result of a call at run time; computed now when nothing in it depends on the inputs."""
        return self._translation.call(function, args, named)

    def refuse(self, what: str) -> UnknownOperator:
        """The error for a variant that is not translated."""
        return UnknownOperator("torch translates no " + self.kind + " with " + what)


class _Translation:
    """Builds the fx graph; beside every value it keeps a tensor without data, for shapes and types."""

    def __init__(self, network: OnnxNetwork, shapes: Shapes) -> None:
        self.network = network
        self.root = torch.nn.Module()
        self.graph = fx.Graph()
        self._examples: dict[fx.Node, torch.Tensor] = {}
        self._buffers: dict[int, fx.Node] = {}
        self._held: list[torch.Tensor] = []
        self._place: tuple[str, str, tuple[str, ...]] = ("", "", ())
        self.values: dict[str, Any] = dict(network.weights)
        for index, ((name, dtype, _), shape) in enumerate(zip(network.inputs, shapes)):
            self.values[name] = self.graph.placeholder("input_" + str(index))
            self._examples[self.values[name]] = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")

    def module(self) -> fx.GraphModule:
        for node in self.network.nodes:
            self._place = (node.name or node.output[0], node.op_type, tuple(node.output))
            step = Step(node, [self.values[name] if name else None for name in node.input], self)
            found = OPERATORS[node.op_type](step)
            results = found if isinstance(found, (tuple, list)) else (found,)
            self.values.update({name: value for name, value in zip(node.output, results) if name})
        self._place = ("outputs", "Output", ())
        self.graph.output(tuple(self._reference(self.values[name]) for name in self.network.outputs))
        self.graph.eliminate_dead_code()
        return fx.GraphModule(self.root, self.graph).eval()

    def example(self, value: Any) -> torch.Tensor:
        return value if isinstance(value, torch.Tensor) else self._examples[value]

    def call(self, function: Callable[..., Any], args: Any, named: Mapping[str, Any]) -> Any:
        if not any(isinstance(leaf, fx.Node) for leaf in _leaves((args, dict(named)))):
            with torch.no_grad():
                return function(*args, **named)
        given = _each(self._reference, (args, dict(named)))
        node = self.graph.call_function(function, given[0], given[1])
        node.meta["onnx"] = self._place
        empty = _each(self._empty, (args, dict(named)))
        with torch.no_grad():
            return self._spread(node, function(*empty[0], **empty[1]))

    def _spread(self, node: fx.Node, example: Any) -> Any:
        """A node, or one per part of a tuple."""
        if isinstance(example, torch.Tensor):
            self._examples[node] = example
            return node
        parts = []
        for index, part in enumerate(example):
            item = self.graph.call_function(_item, (node, index))
            item.meta["onnx"] = self._place
            self._examples[item] = part
            parts.append(item)
        return tuple(parts)

    def _reference(self, value: Any) -> Any:
        """A constant tensor becomes a buffer of the module; everything else stays."""
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._buffers:
            name = "constant_" + str(len(self._buffers))
            self.root.register_buffer(name, _laid_out(value, self.network.channels_last))
            self._held.append(value)
            self._buffers[id(value)] = self.graph.get_attr(name)
        return self._buffers[id(value)]

    def _empty(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._examples[value]
        return value.to("meta") if isinstance(value, torch.Tensor) else value


_DOMAINS = ("", "ai.onnx")


def _item(values: Sequence[Any], index: int) -> Any:
    return values[index]


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """The same nest of lists, tuples and dicts with every leaf changed."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(change, item) for item in value)
    if isinstance(value, dict):
        return {key: _each(change, item) for key, item in value.items()}
    return change(value)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return _leaves(list(value.values()))
    return [value]


def _tensor(array: np.ndarray, device: str) -> torch.Tensor:
    if array.dtype.kind not in "fiub":
        raise UnknownOperator("torch holds no constant of type " + str(array.dtype))
    return torch.from_numpy(np.array(array)).to(device)


def _laid_out(tensor: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Weights of convolutions in the order of memory that the network runs in."""
    return tensor.contiguous(memory_format=torch.channels_last) if channels_last and tensor.dim() == 4 else tensor


def _spec(value: Any) -> Spec:
    kind = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    return value.name, dtype, tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
