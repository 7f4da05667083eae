"""Int8 copies for measuring time: the structure of real post-training quantization, ranges out of thin air.

Latency depends on which tensors are quantized and how, hardly on the numbers. Real quantization calibrates with images
and takes seconds; a copy takes milliseconds, with numpy and onnx alone. Its outputs mean nothing: never deliver one.
What does depend on numbers is kept: weights are the network's own, zero points are 0 where values cannot be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.groups import Selection
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS, Dialect
from mtnas.quantize.levels import not_negative, quantize_operand, quantize_weight
from mtnas.quantize.marks import Bias, Mark, Marks, mark_tensors
from mtnas.quantize.prepare import clean, named
from mtnas.quantize.ptq import kept_in_float, seven_bit
from mtnas.quantize.residual import free_main_paths

#: initializers up to this many numbers keep them for shape inference
_SMALL = 64
#: half range of a signed activation; each tensor gets a little more, so that no two scales are equal by chance
_RANGE, _STEP = 4.0, 0.0078125


def timing_copy(
    model: onnx.ModelProto,
    dialect: str,
    *,
    float_branches: Sequence[str] = (),
    float_heads: Sequence[str] = (),
    float_nodes: Sequence[str] = (),
    float_upsampling: bool = True,
) -> onnx.ModelProto:
    """An int8 network that takes as long as the really quantized one; the model given is left alone.

    Args:
        model: float network with batch-norm folded.
        dialect: a row of `DIALECTS`.
        float_branches: tasks whose decoders stay in float; `shared` keeps what several tasks share.
        float_heads, float_nodes, float_upsampling: as in `QuantizeConfig`.
    """
    config = QuantizeConfig(
        dialect=dialect,
        float_branches=tuple(float_branches),
        float_heads=tuple(float_heads),
        float_nodes=tuple(float_nodes),
        float_upsampling=float_upsampling,
    )
    return copy_for(model, config)


def copy_for(model: onnx.ModelProto, config: QuantizeConfig) -> onnx.ModelProto:
    """The timing copy of what quantization would make with these settings."""
    dialect = DIALECTS[config.dialect]
    light = named(without_weights(model))
    marks = mark_tensors(light.graph, dialect, kept_in_float(light.graph, config))
    arrays = {tensor.name: tensor for tensor in (*light.graph.initializer, *model.graph.initializer)}
    copy = _Copy(light, arrays, dialect, marks, 64 if seven_bit(config) else 127)
    result = copy.build()
    if dialect.skip_inputs_only:
        free_main_paths(result)
    return clean(result)


def file_bytes(precision: str, config: QuantizeConfig) -> Callable[[onnx.ModelProto], bytes]:
    """How float networks become the files that are measured: as they are, or as timing copies.

    Args:
        precision: `float32` or `int8`, as `mtnas.measure.devices.measured_precision` says.
        config: dialect and what stays in float; read for `int8` only.
    """
    if precision == "int8":
        return lambda model: copy_for(model, config).SerializeToString()
    return lambda model: model.SerializeToString()


def precise_cut(
    cut: Callable[[Selection], onnx.ModelProto], precision: str, config: QuantizeConfig
) -> Callable[[Selection], bytes]:
    """The cut of a profile in one precision: a selection's file."""
    written = file_bytes(precision, config)
    return lambda selection: written(cut(selection))


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph whose large initializers have a type and a shape, but no numbers."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) <= _SMALL or tensor.data_type != TensorProto.FLOAT:
            graph.initializer.append(tensor)
        else:
            graph.initializer.append(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return light


@dataclass
class _Copy:
    """Collects the nodes and initializers of the copy."""

    source: onnx.ModelProto
    arrays: dict[str, TensorProto]
    dialect: Dialect
    marks: Marks
    most: int
    """Largest magnitude of a quantized weight."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, TensorProto] = field(default_factory=dict)

    def build(self) -> onnx.ModelProto:
        graph = self.source.graph
        self.outputs = {value.name for value in graph.output}
        self.positive = not_negative(graph, self.arrays)
        for name, mark in self.marks.tensors.items():
            if name in self.arrays:
                self._quantize_stored(name, mark)
        for value in graph.input:
            self._pair_behind(value.name)
        biases = dict(self._biases())
        gone = set(self.marks.absorbed.values())
        for node in graph.node:
            if node.output[0] in gone and node.op_type in {"Relu", "Clip"}:
                continue
            self.nodes.append(self._rewired(node, biases))
            for name in node.output:
                self._pair_behind(self.marks.final(name))
        return self._model(graph)

    def _model(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        made_by_node = {name for node in self.nodes for name in node.output}
        kept = [tensor for name, tensor in self.arrays.items() if name in read - made_by_node]
        made = helper.make_graph(self.nodes, graph.name, graph.input, graph.output, [*self.stored.values(), *kept])
        model = helper.make_model(made, ir_version=self.source.ir_version)
        del model.opset_import[:]
        model.opset_import.extend(self.source.opset_import)
        return model

    def _rewired(self, node: onnx.NodeProto, biases: dict[str, str]) -> onnx.NodeProto:
        """The node reading from pairs, writing in front of them."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            copy.input[index] = self._behind(name)
        if node.name in biases:
            copy.input[2] = biases[node.name]
            kept = [attribute for attribute in copy.attribute if attribute.name != "beta"]
            del copy.attribute[:]
            copy.attribute.extend(kept)
        for index, name in enumerate(node.output):
            final = self.marks.final(name)
            in_front = final in self.marks.tensors and final in self.outputs
            copy.output[index] = f"{final}_QuantizeLinear_Input" if in_front else final
        return copy

    def _behind(self, name: str) -> str:
        paired = name in self.marks.tensors and name not in self.outputs
        return f"{name}_DequantizeLinear_Output" if paired else name

    # --- activations ---

    def _pair_behind(self, name: str) -> None:
        """Q and DQ after a tensor that was just made."""
        if name not in self.marks.tensors:
            return
        source = f"{name}_QuantizeLinear_Input" if name in self.outputs else name
        self._pair(name, source, name if name in self.outputs else self._behind(name), self._scale_of(name))

    def _pair(self, name: str, source: str, target: str, scale: tuple[str, str], **attributes: int) -> None:
        middle = f"{name}_QuantizeLinear_Output"
        self._node("QuantizeLinear", [source, *scale], middle, f"{name}_QuantizeLinear", **attributes)
        self._node("DequantizeLinear", [middle, *scale], target, f"{name}_DequantizeLinear", **attributes)

    def _node(self, operator: str, inputs: Sequence[str], output: str, name: str, **attributes: int) -> None:
        node = helper.make_node(operator, inputs, [output], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)

    def _scale_of(self, name: str) -> tuple[str, str]:
        """Names of scale and zero point, made on first use."""
        mark = self.marks.tensors[name]
        while mark.like and mark.like in self.marks.tensors:
            name, mark = mark.like, self.marks.tensors[mark.like]
        names = (f"{name}_scale", f"{name}_zero_point")
        if names[0] not in self.stored:
            widest = _RANGE * (1 + _STEP * len(self.stored))
            levels = 254 if self.dialect.symmetric else 255
            whole = widest if name in self.positive and not self.dialect.symmetric else 2 * widest
            zero = 0 if self.dialect.symmetric or name in self.positive else 128
            self._store(names[0], np.array(whole / levels, np.float32))
            self._store(names[1], np.array(zero, np.int8 if self.dialect.activations == "QInt8" else np.uint8))
        return names

    def _store(self, name: str, array: np.ndarray) -> None:
        self.stored[name] = numpy_helper.from_array(array, name)

    # --- stored arrays ---

    def _quantize_stored(self, name: str, mark: Mark) -> None:
        """A weight, or a stored operand of an addition: as integers behind a DQ, or as it is behind a pair."""
        array = numpy_helper.to_array(self.arrays[name])
        if mark.weight:
            scale, zero, levels = quantize_weight(array, mark.axis, self.most)
        else:
            scale, zero, levels = quantize_operand(array, self.dialect)
        scales = (f"{name}_scale", f"{name}_zero_point")
        self._store(scales[0], scale)
        self._store(scales[1], zero)
        attributes = {} if mark.axis is None else {"axis": mark.axis}
        if self.dialect.float_weights:
            self._pair(name, name, self._behind(name), scales, **attributes)
        else:
            self._store(f"{name}_quantized", levels)
            inputs = [f"{name}_quantized", *scales]
            self._node("DequantizeLinear", inputs, self._behind(name), f"{name}_DequantizeLinear", **attributes)

    def _biases(self) -> Iterator[tuple[str, str]]:
        """(layer, its bias tensor); a bias that two layers read is stored twice."""
        taken: set[str] = set()
        for bias in self.marks.biases:
            name = bias.name if bias.name not in taken else f"{bias.name}_{bias.node}"
            taken.add(name)
            scale_C = self._bias_scale(bias)
            array = numpy_helper.to_array(self.arrays[bias.name]).astype(np.float64)
            limits = np.iinfo(np.int32)
            levels = np.clip(np.rint(array / scale_C), limits.min, limits.max).astype(np.int32)
            self._store(f"{name}_quantized", levels)
            self._store(f"{name}_quantized_scale", scale_C.astype(np.float32).reshape(-1))
            zeros = np.zeros(scale_C.size, np.int32) if scale_C.size > 1 else np.array(0, np.int32)
            self._store(f"{name}_quantized_zero_point", zeros)
            inputs = [f"{name}_quantized", f"{name}_quantized_scale", f"{name}_quantized_zero_point"]
            attributes = {"axis": 0} if scale_C.size > 1 else {}
            self._node("DequantizeLinear", inputs, name, f"{name}_DequantizeLinear", **attributes)
            yield bias.node, name

    def _bias_scale(self, bias: Bias) -> np.ndarray:
        image = numpy_helper.to_array(self.stored[self._scale_of(bias.image)[0]])
        weight = numpy_helper.to_array(self.stored[f"{bias.weight}_scale"])
        return image.astype(np.float64) * weight.astype(np.float64) * bias.beta
