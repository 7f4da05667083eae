"""Before and after the quantizer: named nodes and known shapes going in, a clean portable file coming out."""

from __future__ import annotations

import onnx
from onnx import helper

from mtnas.base.errors import ModelError

#: the newest IR version and opset that device runtimes of the last years still read
MAX_IR_VERSION = 10
OPSETS = (20, 21)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set a model uses."""
    return next((item.version for item in model.opset_import if item.domain in {"", "ai.onnx"}), 0)


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes all have unique names, constants are initializers, and shapes are inferred."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _constants_to_initializers(copy.graph)
    taken: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)
    try:
        return onnx.shape_inference.infer_shapes(copy, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError("a valid ONNX graph", received=str(error)[:500], where="model to quantize") from error


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"), None)
        if value is None:
            kept.append(node)
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    del graph.node[:]
    graph.node.extend(kept)


def clean(model: onnx.ModelProto, producer: str = "mtnas") -> onnx.ModelProto:
    """A copy without traces of how it was made (stack traces, paths), at an IR version that devices read.

    Node names, tensor names, numbers and our own notes (`mtnas.*`) stay; the operator set is not converted.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, MAX_IR_VERSION)
    copy.producer_name = producer
    copy.ClearField("producer_version")
    copy.ClearField("doc_string")
    copy.graph.ClearField("doc_string")
    notes = {entry.key: entry.value for entry in copy.metadata_props if entry.key.startswith("mtnas.")}
    helper.set_model_props(copy, notes)
    graph = copy.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("doc_string")
        del item.metadata_props[:]
    del graph.metadata_props[:]
    _drop_unused_opsets(copy)
    return copy


def _drop_unused_opsets(model: onnx.ModelProto) -> None:
    used = {node.domain or "" for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if (item.domain if item.domain != "ai.onnx" else "") in used]
    copies = [helper.make_opsetid(item.domain, item.version) for item in kept]
    del model.opset_import[:]
    model.opset_import.extend(copies)
