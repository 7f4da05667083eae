"""Bypasses for depth: the graph without some blocks. Whoever read a block's output then reads its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Bypass:
    """Where a block lies in the graph: the tensor that it reads, and the one that it makes."""

    source: str
    result: str


Bypasses = Mapping[str, Bypass]


def rewire(graph: onnx.GraphProto, instead: Mapping[str, str]) -> None:
    """Let every node read another tensor instead of a named one, chains followed to their end."""
    for node in graph.node:
        for number, name in enumerate(node.input):
            while name in instead:
                name = instead[name]
            node.input[number] = name


def drop_unreached(graph: onnx.GraphProto) -> set[str]:
    """Remove nodes and constants that no output needs; returns the names that are still read."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:]
    graph.node.extend(reversed(kept))
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return needed


def without_blocks(
    skeleton: onnx.ModelProto, bypasses: Bypasses, skipped: Iterable[str]
) -> tuple[onnx.ModelProto, set[str]]:
    """A copy of a skeleton in which blocks return their input, and the names that are still read."""
    small = onnx.ModelProto()
    small.CopyFrom(skeleton)
    rewire(small.graph, {bypasses[name].result: bypasses[name].source for name in skipped})
    return small, drop_unreached(small.graph)
