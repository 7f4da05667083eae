"""Networks as ONNX: from a plain module, or as they are."""

from __future__ import annotations

from pathlib import Path

import onnx
from torch import Tensor, nn

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.groups import Selection
from mtnas.export.config import ExportConfig
from mtnas.graph.build import build_elastic_graph
from mtnas.stages.network import Network


def float_onnx(model: nn.Module, example_inputs: Tensor, config: ExportConfig | None = None) -> onnx.ModelProto:
    """The network as ONNX: input `image`, one output per task, batch-norm folded, batch 1 or open.

    Raises `ModelError` when the module breaks the contract or cannot be exported.
    """
    config = config or ExportConfig()
    graph = build_elastic_graph(model, example_inputs, (), opset=config.opset)
    state = Network.of_module("network", Selection(()), model).state
    statistics = {name: value for name, value in state.items() if name.endswith(("running_mean", "running_var"))}
    return graph.cut(Selection(()), state=state, statistics=statistics, dynamic_batch=config.dynamic_batch)


def as_onnx(
    model: nn.Module | onnx.ModelProto | str | Path, example_inputs: Tensor | None, config: ExportConfig | None = None
) -> onnx.ModelProto:
    """A module exported, a file read, a proto as it is."""
    if isinstance(model, onnx.ModelProto):
        return model
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise JobError("example_inputs of shape (B,C,H,W) with a module", received="None", where="example_inputs")
        return float_onnx(model, example_inputs, config)
    if not Path(model).is_file():
        raise CheckpointError("an ONNX file", received="no file", where=str(model))
    return onnx.load_model(str(model))
