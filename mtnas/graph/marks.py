"""Marks around blocks: named zeros added to a block's input and output, so that both are found in the exported graph.

The exporter keeps the names of parameters and buffers, never those of inner tensors. A mark is a buffer; the node that
adds it is found by its name, and taken out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx

from mtnas.base.errors import ModelError
from mtnas.graph.bypass import Bypass, rewire

if TYPE_CHECKING:
    from torch import Tensor, nn

_IN, _OUT = "mtnas_block_in", "mtnas_block_out"


def mark(model: nn.Module, blocks: Sequence[str]) -> None:
    """Add a zero before and after every named block of a model that nobody else uses."""
    import torch

    def before(block: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] + block.get_buffer(_IN),)

    def after(block: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output + block.get_buffer(_OUT)

    for name in blocks:
        block = model.get_submodule(name)
        block.register_buffer(_IN, torch.zeros(()))
        block.register_buffer(_OUT, torch.zeros(()))
        block.register_forward_pre_hook(before)
        block.register_forward_hook(after)


def take_marks(proto: onnx.ModelProto, blocks: Sequence[str]) -> dict[str, Bypass]:
    """Take the marks out of an exported graph; returns where each block lies."""
    graph = proto.graph
    readers = {name: node for node in graph.node for name in node.input}
    outputs = {output.name for output in graph.output}
    found: dict[str, Bypass] = {}
    instead: dict[str, str] = {}
    marks: set[str] = set()
    for block in blocks:
        ends = []
        for side in (_IN, _OUT):
            name = f"{block}.{side}"
            node = readers.get(name)
            if node is None or node.op_type != "Add" or node.output[0] in outputs:
                raise _lost(block)
            marks.add(name)
            (source,) = (other for other in node.input if other != name)
            instead[node.output[0]] = source
            ends.append(source)
        found[block] = Bypass(*ends)
    added = set(instead)
    nodes = [node for node in graph.node if not added.intersection(node.output)]
    constants = [tensor for tensor in graph.initializer if tensor.name not in marks]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(constants)
    rewire(graph, instead)
    return {block: Bypass(_end(b.source, instead), _end(b.result, instead)) for block, b in found.items()}


def _end(name: str, instead: dict[str, str]) -> str:
    while name in instead:
        name = instead[name]
    return name


def _lost(block: str) -> ModelError:
    return ModelError(
        "a block whose input and output are found in the exported graph",
        received=f"no trace of {block!r}",
        where="elastic graph",
        cure="name the blocks that may be left out with blocks=, without this one",
    )
