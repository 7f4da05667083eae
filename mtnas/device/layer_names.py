"""Names of a runtime's layers traced back to the tensors of the ONNX file; without the `onnx` package none are."""

from __future__ import annotations

import statistics
from typing import Any, Iterable, Mapping, Sequence


class FileNames:
    """Which tensors the nodes of a file write."""

    def __init__(self, model: Any) -> None:
        nodes = _nodes(model)
        self.written = {node.name: list(node.output) for node in nodes if node.name}
        self.tensors = {name for node in nodes for name in node.output}

    def of(self, name: str) -> list[str]:
        """Tensors behind a name that is a node's or a tensor's of the file."""
        if name in self.written:
            return self.written[name]
        return [name] if name in self.tensors else []

    def of_all(self, names: Iterable[str]) -> list[str]:
        """The same for several names, each tensor once."""
        return list(dict.fromkeys(tensor for name in names for tensor in self.of(name)))


def layer_table(
    taken: Sequence[Mapping[str, float]], kinds: Mapping[str, str], outputs: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """Records of layers from the milliseconds of several runs: the median of each, in order of the first run."""
    return [
        {
            "name": name,
            "kind": kinds.get(name, ""),
            "ms": statistics.median(run[name] for run in taken if name in run),
            "outputs": outputs.get(name, []),
        }
        for name in taken[0]
    ]


def _nodes(model: Any) -> list[Any]:
    try:
        import onnx
    except ImportError:
        return []
    proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load_model(model)
    return list(proto.graph.node)
