"""Weights that the graph reshapes before it uses them: worked out with numpy when cutting, so that no node is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from mtnas.graph.follow import attributes_of

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Derived:
    """One array computed from another by moving its elements, never by changing them."""

    name: str
    source: str
    operator: str
    attributes: Mapping[str, object]
    argument: str

    def compute(self, arrays: Arrays) -> np.ndarray:
        argument = arrays[self.argument] if self.argument else None
        return _MOVES[self.operator](arrays[self.source], argument, self.attributes)


def _reshape(array: np.ndarray, target: np.ndarray | None, _: Mapping[str, object]) -> np.ndarray:
    assert target is not None
    return array.reshape([array.shape[i] if size == 0 else int(size) for i, size in enumerate(target)])


def _unsqueeze(array: np.ndarray, axes: np.ndarray | None, _: Mapping[str, object]) -> np.ndarray:
    assert axes is not None
    return np.expand_dims(array, tuple(int(a) for a in np.atleast_1d(axes)))


def _squeeze(array: np.ndarray, axes: np.ndarray | None, _: Mapping[str, object]) -> np.ndarray:
    return np.squeeze(array, None if axes is None else tuple(int(a) for a in np.atleast_1d(axes)))


def _transpose(array: np.ndarray, _: np.ndarray | None, attributes: Mapping[str, object]) -> np.ndarray:
    perm = attributes.get("perm")
    return np.ascontiguousarray(array.transpose(None if perm is None else [int(a) for a in perm]))  # type: ignore[attr-defined]


def _identity(array: np.ndarray, _: np.ndarray | None, __: Mapping[str, object]) -> np.ndarray:
    return array


_MOVES: dict[str, Callable[[np.ndarray, np.ndarray | None, Mapping[str, object]], np.ndarray]] = {
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Identity": _identity,
}


def take_derived(skeleton: onnx.ModelProto, weights: set[str]) -> tuple[Derived, ...]:
    """Take the nodes that only move the elements of weights out of a skeleton, in order."""
    graph = skeleton.graph
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    known, found, kept = set(weights), [], []
    for node in graph.node:
        movable = node.op_type in _MOVES and node.input[0] in known and node.output[0] not in outputs
        if movable and all(name in constants for name in node.input[1:]):
            argument = node.input[1] if len(node.input) > 1 else ""
            found.append(Derived(node.output[0], node.input[0], node.op_type, attributes_of(node), argument))
            known.add(node.output[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return tuple(found)


def constant_arrays(skeleton: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in skeleton.graph.initializer}
