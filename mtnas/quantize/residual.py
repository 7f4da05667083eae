"""TensorRT's rule for residual adds: the skip input keeps its Q/DQ pair, the input from the convolution loses it.

An Add fuses into the epilogue of the convolution that feeds it only when nothing stands between the two. Of two
convolution inputs (a projection shortcut) the one over the longer path is freed.
"""

from __future__ import annotations

import onnx

from mtnas.quantize.regions import WEIGHTED, Wiring

_PAIR = ("DequantizeLinear", "QuantizeLinear")


def free_main_paths(model: onnx.ModelProto) -> list[str]:
    """Rewire, in place, the main input of each residual Add past its Q/DQ pair; returns the names of those Adds."""
    wiring = Wiring.of(model.graph)
    depth = _depths(model.graph, wiring)
    freed = []
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        mains = [i for i, name in enumerate(node.input) if _main_source(name, wiring) is not None]
        if not mains:
            continue
        index = max(mains, key=lambda i: (depth.get(node.input[i], 0), -i))
        source = _main_source(node.input[index], wiring)
        assert source is not None
        node.input[index] = source
        freed.append(node.name)
    _drop_dangling(model.graph)
    return freed


def _main_source(name: str, wiring: Wiring) -> str | None:
    """The weighted layer's output behind a Q/DQ pair, when only that pair reads it."""
    for op_type in _PAIR:
        node = wiring.producers.get(name)
        if node is None or node.op_type != op_type or len(wiring.consumers.get(name, ())) != 1:
            return None
        name = node.input[0]
    layer = wiring.producers.get(name)
    alone = len(wiring.consumers.get(name, ())) == 1
    return name if layer is not None and layer.op_type in WEIGHTED and alone else None


def _depths(graph: onnx.GraphProto, wiring: Wiring) -> dict[str, int]:
    """Number of weighted layers on the longest way from the input to each tensor; nodes are in order."""
    depth: dict[str, int] = {}
    for node in graph.node:
        here = max((depth.get(name, 0) for name in node.input), default=0) + (node.op_type in WEIGHTED)
        depth.update(dict.fromkeys(node.output, here))
    return depth


def _drop_dangling(graph: onnx.GraphProto) -> None:
    """Remove Q/DQ nodes that nobody reads, and initializers left without a reader."""
    while True:
        used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        dead = [node for node in graph.node if node.op_type in _PAIR and not used.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
