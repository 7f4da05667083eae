"""A vector over channels that is multiplied or added before convolutions, folded into them.

conv(x * v) is a convolution whose weights are scaled by input channel, always. conv(x + v) is conv(x) and a constant,
exactly where the convolution does not pad: at a padded border the constant would be another. Folded only where
convolutions alone read the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from mtnas.graph.follow import attributes_of
from mtnas.graph.labels import Labelled


@dataclass(frozen=True)
class InputFold:
    """One convolution behind a vector.

    Args:
        weight: of the convolution; scaled in place by a product.
        vector: the vector's name.
        bias: of the convolution, empty where it has none; read by a sum.
        out_bias: where the bias of a sum goes; empty for a product.
        channels: a tensor whose axis 1 are the output channels.
    """

    weight: str
    vector: str
    bias: str
    out_bias: str
    channels: str

    def apply(self, arrays: dict[str, np.ndarray]) -> None:
        """Change the weight, or write the bias, in float64."""
        weight = arrays[self.weight]
        vector_I = arrays[self.vector].astype(np.float64).ravel()
        if not self.out_bias:
            arrays[self.weight] = (weight * vector_I[None, :, None, None]).astype(weight.dtype)
            return
        constant_O = weight.astype(np.float64).sum((2, 3)) @ vector_I
        before_O = arrays[self.bias].astype(np.float64) if self.bias else 0.0
        arrays[self.out_bias] = (before_O + constant_O).astype(weight.dtype)


def find_input_folds(graph: onnx.GraphProto, labels: Mapping[str, Labelled], arrays: set[str]) -> tuple[InputFold, ...]:
    """Find what can be folded, and rewrite the nodes as if it had been.

    Args:
        graph: changed in place.
        labels: shapes of all tensors.
        arrays: names of the tensors that are weights.
    """
    uses = Counter(name for node in graph.node for name in node.input)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    folds: list[InputFold] = []
    gone = set()
    for node in graph.node:
        found = _operands(node, labels, arrays) if node.output[0] not in outputs else None
        convolutions = readers.get(node.output[0], [])
        if found is None or not convolutions:
            continue
        source, vector = found
        if all(_foldable(c, node, arrays, uses) for c in convolutions):
            gone.add(node.name)
            for convolution in convolutions:
                folds.append(_fold(convolution, vector, adds=node.op_type == "Add"))
                convolution.input[0] = source
    kept = [node for node in graph.node if node.name not in gone]
    del graph.node[:]
    graph.node.extend(kept)
    return tuple(folds)


def _operands(node: onnx.NodeProto, labels: Mapping[str, Labelled], arrays: set[str]) -> tuple[str, str] | None:
    """(map, vector) of a product or sum with one number per channel."""
    if node.op_type not in ("Mul", "Add"):
        return None
    for source, vector in (node.input, reversed(node.input)):
        shape = labels[source].shape
        if vector in arrays and source not in arrays and len(shape) == 4 and labels[vector].shape == (shape[1], 1, 1):
            return source, vector
    return None


def _foldable(node: onnx.NodeProto, before: onnx.NodeProto, arrays: set[str], uses: Counter[str]) -> bool:
    if node.op_type != "Conv" or node.input[0] != before.output[0]:
        return False
    attributes = attributes_of(node)
    alone = all(uses[name] == 1 for name in node.input[1:3] if name)
    plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    padded = before.op_type == "Add" and any(attributes.get("pads", ()))  # type: ignore[arg-type]
    return alone and plain and not padded and arrays.issuperset(name for name in node.input[1:3] if name)


def _fold(node: onnx.NodeProto, vector: str, *, adds: bool) -> InputFold:
    weight, bias = node.input[1], node.input[2] if len(node.input) > 2 else ""
    if not adds:
        return InputFold(weight, vector, "", "", node.output[0])
    out_bias = bias or f"{weight.removesuffix('.weight')}.bias"
    node.input[:] = [node.input[0], weight, out_bias]
    return InputFold(weight, vector, bias, out_bias, node.output[0])
