"""Heads of attention in a traced network: which channels of a linear layer form one head, and where heads end.

A layer's channels (B,N,A*D) are seen as heads by a view to (..., A, D) or (..., D); another view to (..., A*D) ends
them. Between the two, positions along an axis are no channels: what meets there is linked head by head, by the layers'
own numbering, and a layer that enters without such a view (the one key of multi-query attention) is not linked.
A = heads, D = channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

_VIEWS = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"})


@dataclass(frozen=True)
class Heads:
    """What was found.

    Args:
        units: for every layer that is split into heads, the head of each of its channels.
        entries: pairs (layer's node, operation) at which heads begin.
        inside: operations between the beginning and the end of heads.
        ends: those of them that end heads.
    """

    units: Mapping[nn.Module, tuple[int, ...]]
    entries: frozenset[tuple[Any, Any]]
    inside: frozenset[Any]
    ends: frozenset[Any]

    def links(self, one: Any, other: Any) -> bool:
        """Whether channels of two neighbours in the graph mean the same."""
        if (one in self.inside) == (other in self.inside):
            return True
        within, without = (one, other) if one in self.inside else (other, one)
        return within in self.ends or (without, within) in self.entries


def find_heads(nodes: Iterable[Any], layers: Iterable[Any]) -> Heads:
    """Heads among the nodes of torch-pruning's graph.

    Args:
        nodes: all of them.
        layers: those that have channels of their own.
    """
    layers = set(layers)
    units: dict[nn.Module, tuple[int, ...]] = {}
    entries: set[tuple[Any, Any]] = set()
    inside: set[Any] = set()
    ends: set[Any] = set()
    for node in nodes:
        before, after = _shapes(node)
        source = _before(node, layers)
        if source is None or not isinstance(source.module, nn.Linear) or source.module.out_features != before[-1]:
            continue
        if after[-1] < before[-1] and before[-1] % after[-1] == 0:
            units[source.module] = _units(before[-1], after)
            entries.add(_first_step(source, node))
            found = _until_end(node, layers, before[-1], ends)
            inside |= found | set(_steps(node, source))
    return Heads(units, frozenset(entries), frozenset(inside), frozenset(ends))


def _units(channels: int, after: tuple[int, ...]) -> tuple[int, ...]:
    """The head of every channel: its index on the axis before the last, or the number of its run."""
    tail = 1
    while tail < len(after) and prod(after[-tail:]) < channels:
        tail += 1
    whole = prod(after[-tail:]) == channels
    heads = after[-2] if whole else channels // after[-1]
    return tuple(channel // after[-1] % heads for channel in range(channels))


def _shapes(node: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes before and after a view; two times (0,) for other operations."""
    grad_fn = node.grad_fn
    if grad_fn is None or grad_fn.name() not in _VIEWS or isinstance(node.module, nn.Linear):
        return (0,), (0,)
    return tuple(grad_fn._saved_self_sym_sizes), tuple(grad_fn._input_metadata[0].shape)


def _steps(node: Any, source: Any) -> Iterable[Any]:
    """Operations from a node back to its layer, both left out."""
    while node.inputs and node.inputs[0] is not source:
        node = node.inputs[0]
        yield node


def _first_step(source: Any, node: Any) -> tuple[Any, Any]:
    """The edge out of the layer on the way to a node."""
    return source, [node, *_steps(node, source)][-1]


def _before(node: Any, layers: set[Any]) -> Any:
    """The layer that a node reads through operations of one input; None where there is none."""
    while len(node.inputs) == 1:
        node = node.inputs[0]
        if node in layers:
            return node
    return None


def _until_end(start: Any, layers: set[Any], channels: int, ends: set[Any]) -> set[Any]:
    """Operations after a node, up to the views that make the channels whole again (they are added to `ends`)."""
    found, stack = {start}, [start]
    while stack:
        node = stack.pop()
        before, after = _shapes(node)
        if node is not start and before[-1] < channels == after[-1]:
            ends.add(node)
            continue
        following = [n for n in node.outputs if n not in layers and n not in found]
        found.update(following)
        stack += following
    return found
