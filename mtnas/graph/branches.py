"""Branches: what belongs to one task and what is shared, read off the graph.

A node belongs to the task whose output alone it reaches; a node that reaches several is shared. A weight belongs
where the nodes that read it belong.
"""

from __future__ import annotations

import onnx

SHARED = "shared"


def branch_name(reached: frozenset[str]) -> str:
    return next(iter(reached)) if len(reached) == 1 else SHARED


def reachable_outputs(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    """For every tensor, the outputs that depend on it."""
    reached: dict[str, set[str]] = {output.name: {output.name} for output in graph.output}
    for node in reversed(graph.node):
        found = set().union(*(reached.get(name, set()) for name in node.output if name))
        for name in node.input:
            if name:
                reached.setdefault(name, set()).update(found)
    return {name: frozenset(outputs) for name, outputs in reached.items()}


def tensor_branches(graph: onnx.GraphProto) -> dict[str, str]:
    """Branch of every tensor that reaches an output."""
    return {name: branch_name(found) for name, found in reachable_outputs(graph).items() if found}


def branch_order(graph: onnx.GraphProto) -> tuple[str, ...]:
    """`shared` where there are several outputs, then every output."""
    names = tuple(output.name for output in graph.output)
    return names if len(names) == 1 else (SHARED, *names)
