"""Networks sent to a device as slices of the full network: its arrays travel once, each network as a recipe.

Works for any file that a selection is turned into: whatever in it is a slice of the full network's file, by the labels
of the slicing plan, is named instead of sent; the rest is sent as it is. Every slice is compared before it is named, so
a recipe never makes another file. `mtnas.device.cut` puts the file together; see there for both formats.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mtnas.base.groups import Selection
from mtnas.base.optional import require
from mtnas.device.cut import sliced
from mtnas.graph.forks import varied

if TYPE_CHECKING:
    from mtnas.graph.elastic_graph import ElasticGraph

_LEAST_BYTES = 256  # what is smaller is sent as it is


class Shipping:
    """Cuts of one elastic graph, to be made here or on a device.

    Args:
        graph: tells which positions a selection keeps.
        make: a selection's file; the graph's own cut when None.
    """

    def __init__(self, graph: ElasticGraph, make: Callable[[Selection], bytes] | None = None) -> None:
        self._graph = graph
        self.make = make or (lambda selection: bytes(graph.cut(selection).SerializeToString()))

    def request(self, selection: Selection) -> CutRequest:
        """One network, not cut yet."""
        return CutRequest(self, selection)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The large arrays of the full network's file, and those that only other options of its forks have."""
        numpy_helper = require("onnx.numpy_helper")
        found: dict[str, np.ndarray] = {}
        for chosen in ({}, *varied(self._graph.forks)):
            tensors = _initializers(self.make(Selection.of({}, chosen=chosen)))
            found = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()} | found
        return found

    @cached_property
    def base(self) -> bytes:
        """The arrays as one file."""
        table, place = {}, 0
        for name, array in self.arrays.items():
            table[name] = [array.dtype.str, list(array.shape), place]
            place += array.nbytes + -array.nbytes % 16
        header = json.dumps(table).encode("utf-8")
        header += b" " * (-(len(header) + 1) % 16) + b"\n"
        parts = (array.tobytes() + b"\0" * (-array.nbytes % 16) for array in self.arrays.values())
        return header + b"".join(parts)

    def recipe(self, selection: Selection) -> bytes:
        """How the device makes the file of one selection."""
        data = self.make(selection)
        parts: list[Any] = []
        literal, place = [], 0
        for name, tensor in _initializers(data).items():
            keep = self._keep(name, selection, tensor.raw_data)
            start = data.find(tensor.raw_data, place) if keep is not None else -1
            if start < 0:
                continue
            literal.append(data[place:start])
            parts += [start - place, [name, keep]]
            place = start + len(tensor.raw_data)
        literal.append(data[place:])
        plan = {"sha256": hashlib.sha256(data).hexdigest(), "parts": [*parts, len(data) - place]}
        return json.dumps(plan).encode("utf-8") + b"\n" + zlib.compress(b"".join(literal), 6)

    def _keep(self, name: str, selection: Selection, raw: bytes) -> dict[str, Any] | None:
        """Kept positions by axis; None where the array is not that slice of the full one."""
        if name not in self.arrays:
            return None
        plan = self._graph.at(selection).plan
        mask = plan.units.mask(selection)
        labelled = plan.folded.labels.get(name)
        if labelled is not None and labelled.shape != self.arrays[name].shape:
            return None  # another array: names that the exporter made up mean something else at another input size
        axes: Mapping[int, np.ndarray] = labelled.axes if labelled is not None else {}
        keep = {str(axis): _positions(mask[labels]) for axis, labels in axes.items() if not mask[labels].all()}
        return keep if sliced(self.arrays[name], keep).tobytes() == raw else None


@dataclass(frozen=True)
class CutRequest:
    """One network of an elastic graph, to be cut wherever it is needed."""

    shipping: Shipping
    selection: Selection

    def onnx_bytes(self) -> bytes:
        return self.shipping.make(self.selection)

    def base(self) -> bytes:
        return self.shipping.base

    def recipe(self) -> bytes:
        return self.shipping.recipe(self.selection)


def _initializers(data: bytes) -> dict[str, Any]:
    """The tensors of a file that are worth naming, in their order."""
    model = require("onnx").load_model_from_string(data)
    return {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _LEAST_BYTES}


def _positions(kept: np.ndarray) -> Any:
    """The true places, as [start, stop] where they lie side by side."""
    at = np.flatnonzero(kept)
    if len(at) and at[-1] - at[0] + 1 == len(at):
        return [int(at[0]), int(at[-1]) + 1]
    return {"at": at.tolist()}
