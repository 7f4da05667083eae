"""Smaller graphs: without some blocks, whose readers then read their input, and with one option of each fork."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from mtnas.graph.forks import deliver, take_ways


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


def drop_unreached(graph: onnx.GraphProto, keep: Iterable[str] = ()) -> set[str]:
    """Remove nodes and constants that no output, and none of the tensors to keep, needs; returns names still read."""
    needed = {output.name for output in graph.output} | set(keep)
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


def reduced(
    skeleton: onnx.ModelProto,
    bypasses: Bypasses,
    skipped: Iterable[str],
    ways: Mapping[str, str],
    tasks: Sequence[str] = (),
) -> tuple[onnx.ModelProto, set[str]]:
    """A copy of a skeleton in which blocks return their input and forks go one way, and the names that are still read.

    Args:
        skeleton: of the largest network, with all options of its forks.
        bypasses: where its blocks lie.
        skipped: the blocks that are left out.
        ways: result of every fork -> the tensor to be read instead.
        tasks: the outputs that are kept; empty = all.
    """
    small = onnx.ModelProto()
    small.CopyFrom(skeleton)
    if tasks:
        outputs = [output for output in skeleton.graph.output if output.name in tasks]
        del small.graph.output[:]
        small.graph.output.extend(outputs)
    take_ways(small.graph, ways)
    rewire(small.graph, {**ways, **{bypasses[name].result: bypasses[name].source for name in skipped}})
    deliver(small.graph, list(ways))
    return small, drop_unreached(small.graph)
