"""Forks in the elastic graph: all options side by side, and one node that passes the default's result on.

To choose another option is to let whoever read that node's result read the option's tensor; what nobody needs then is
dropped. The tensor of n experts is the sum of the first n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from mtnas.base.forks import Fork


@dataclass(frozen=True)
class GraphFork:
    """Where a fork lies in the graph; one that gives several tensors has several of these.

    Args:
        fork: its options.
        tensors: what each option gives, in the order of the options.
        result: the tensor that everybody behind the fork reads.
    """

    fork: Fork
    tensors: tuple[str, ...]
    result: str

    def tensor(self, chosen: Mapping[str, str]) -> str:
        """The tensor of the chosen option, the default's where nothing is said."""
        return self.tensors[self.fork.options.index(chosen.get(self.fork.name, self.fork.default))]

    def to_json(self) -> dict[str, Any]:
        return {**self.fork.to_json(), "tensors": list(self.tensors), "result": self.result}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> GraphFork:
        return GraphFork(Fork.from_json(data), tuple(data["tensors"]), data["result"])


Forks = tuple[GraphFork, ...]


def forks_of(places: Sequence[GraphFork]) -> tuple[Fork, ...]:
    """Every fork once."""
    return tuple({place.fork.name: place.fork for place in places}.values())


def ways(forks: Sequence[GraphFork], chosen: Mapping[str, str]) -> dict[str, str]:
    """Result of every fork -> the tensor to be read instead."""
    return {fork.result: fork.tensor(chosen) for fork in forks}


def take_ways(graph: onnx.GraphProto, instead: Mapping[str, str]) -> None:
    """Let the nodes that pass a fork's result on pass another tensor, which matters where the result is an output."""
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] in instead:
            node.input[0] = instead[node.output[0]]


def deliver(graph: onnx.GraphProto, results: Sequence[str]) -> None:
    """Where a fork's result is an output of the network, let the chosen option itself make it."""
    outputs = {output.name for output in graph.output}
    for result in (name for name in results if name in outputs):
        passing = next(node for node in graph.node if node.output[0] == result)
        source = passing.input[0]
        maker = next((node for node in graph.node if source in node.output), None)
        if passing.op_type != "Identity" or maker is None or source in outputs:
            continue
        for node in graph.node:
            node.input[:] = [result if name == source else name for name in node.input]
        maker.output[:] = [result if name == source else name for name in maker.output]
        graph.node.remove(passing)


def varied(forks: Sequence[GraphFork]) -> list[dict[str, str]]:
    """Every option of every fork alone (with what it needs), then the cheapest of all together."""
    found: list[dict[str, str]] = []
    for fork in forks_of(forks):
        outer = {need.fork: need.options[-1] for need in fork.needs}
        found += [{**outer, fork.name: option} for option in fork.options]
    cheapest = {item.fork.name: item.fork.options[0] for item in forks}
    return [*found, cheapest] if forks else []
