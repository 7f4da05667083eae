"""Marks around blocks and inside forks: named zeros added to tensors, so that these are found in the exported graph.

The exporter keeps the names of parameters and buffers, never those of inner tensors. A mark is a buffer; the node that
adds it is found by its name, and taken out again. A fork is exported with all its options, added up; of the sums only
those of the first n experts stay.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from mtnas.base.errors import ModelError
from mtnas.base.forks import EXPERTS, Fork, each
from mtnas.graph.bypass import Bypass, drop_unreached, rewire
from mtnas.graph.forks import Forks, GraphFork

if TYPE_CHECKING:
    from torch import Tensor, nn

_IN, _OUT = "mtnas_block_in", "mtnas_block_out"
_OPTION, _FORK = "mtnas_option_", "mtnas_fork_out"


def mark(model: nn.Module, blocks: Sequence[str], forks: Sequence[Fork] = ()) -> None:
    """Add a zero before and after every named block, and to every option of a fork, of a model nobody else uses."""
    import torch

    def before(block: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] + block.get_buffer(_IN),)

    def after(block: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + block.get_buffer(_OUT)

    for fork in forks:
        module = model.get_submodule(fork.name)
        for name in (*(f"{_OPTION}{number}" for number in range(len(fork.parts))), _FORK):
            module.register_buffer(name, torch.zeros(()))
        module.__dict__["forward"] = _all_options(module, fork, [model.get_submodule(part) for part in fork.parts])
    for name in blocks:
        block = model.get_submodule(name)
        block.register_buffer(_IN, torch.zeros(()))
        block.register_buffer(_OUT, torch.zeros(()))
        block.register_forward_pre_hook(before)
        block.register_forward_hook(after)


def _all_options(module: nn.Module, fork: Fork, parts: Sequence[nn.Module]) -> Callable[..., Any]:
    def marked(output: Any, mark: str) -> Any:
        return each(lambda tensor: tensor + module.get_buffer(mark), output)

    def forward(*inputs: Tensor) -> Any:
        total: Any = None
        for number, part in enumerate(parts):
            output, mark = part(*inputs), f"{_OPTION}{number}"
            if fork.kind == EXPERTS:
                total = marked(output if total is None else each(operator.add, total, output), mark)
            else:
                total = marked(output, mark) if total is None else each(operator.add, total, marked(output, mark))
        return marked(total, _FORK)

    return forward


def take_marks(
    proto: onnx.ModelProto, blocks: Sequence[str], forks: Sequence[Fork] = ()
) -> tuple[dict[str, Bypass], Forks]:
    """Take the marks out of an exported graph; returns where each block and each fork lies.

    A fork that gives several tensors lies in as many places.
    """
    graph = proto.graph
    marks = _Marks(graph)
    ends = {name: (marks.take(name, _IN), marks.take(name, _OUT)) for name in blocks}
    lying: list[tuple[Fork, tuple[str, ...], str]] = []
    for fork in forks:
        options = [marks.take_all(fork.name, f"{_OPTION}{k}") for k in range(len(fork.parts))]
        lying += [(fork, *place) for place in marks.passing(fork.name, _FORK, options)]
    marks.drop()
    found = tuple(
        GraphFork(fork, tuple(marks.end(tensor) for tensor in tensors), result) for fork, tensors, result in lying
    )
    if found:
        drop_unreached(graph, [tensor for fork in found for tensor in fork.tensors])
    return {name: Bypass(marks.end(source), marks.end(result)) for name, (source, result) in ends.items()}, found


class _Marks:
    """The marks of a graph while they are taken out."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in graph.output}
        self.instead: dict[str, str] = {}
        self.names: set[str] = set()

    def take(self, place: str, mark: str) -> str:
        """The one tensor a mark was added to; its sum will be taken out."""
        found = self.take_all(place, mark)
        if len(found) > 1:
            raise _lost(place)
        return found[0]

    def take_all(self, place: str, mark: str) -> list[str]:
        """The tensors a mark was added to, in the order of the graph; the sums will be taken out."""
        sources = []
        for node in self._adding(place, mark):
            if node.output[0] in self.outputs:
                raise _lost(place)
            (source,) = (other for other in node.input if other != f"{place}.{mark}")
            self.instead[node.output[0]] = source
            sources.append(source)
        return sources

    def passing(self, place: str, mark: str, options: Sequence[Sequence[str]]) -> list[tuple[tuple[str, ...], str]]:
        """For each result a mark was added to, what each option gives there, and the result's name.

        The node that adds the mark will pass the last option on.
        """
        nodes = self._adding(place, mark)
        if any(len(tensors) != len(nodes) for tensors in options):
            raise _lost(place)
        for node, tensor in zip(nodes, options[-1], strict=True):
            node.op_type = "Identity"
            node.input[:] = [tensor]
        return list(zip(zip(*options, strict=True), [node.output[0] for node in nodes], strict=True))

    def _adding(self, place: str, mark: str) -> list[onnx.NodeProto]:
        name = f"{place}.{mark}"
        nodes = self.readers.get(name, [])
        if not nodes or any(node.op_type != "Add" for node in nodes):
            raise _lost(place)
        self.names.add(name)
        return nodes

    def drop(self) -> None:
        """Take out all sums and marks."""
        nodes = [node for node in self.graph.node if node.output[0] not in self.instead]
        constants = [tensor for tensor in self.graph.initializer if tensor.name not in self.names]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        del self.graph.initializer[:]
        self.graph.initializer.extend(constants)
        rewire(self.graph, self.instead)

    def end(self, name: str) -> str:
        while name in self.instead:
            name = self.instead[name]
        return name


def _lost(place: str) -> ModelError:
    return ModelError(
        "a block or fork whose input and output are found in the exported graph",
        received=f"no trace of {place!r}",
        where="elastic graph",
        cure="name the blocks that may be left out with blocks=, without this one; a fork may give one option alone",
    )
