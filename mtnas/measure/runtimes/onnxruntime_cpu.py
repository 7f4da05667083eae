"""onnxruntime, CPU provider."""

from __future__ import annotations

from mtnas.base.optional import require
from mtnas.device.onnxruntime_cpu import OnnxruntimeNetwork
from mtnas.measure.runtimes.base import RuntimeOptions, Session, unreadable


def open_session(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes."""
    require("onnxruntime", why="running networks on this CPU")
    try:
        network = OnnxruntimeNetwork(model, options.threads, options.spinning)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a bad file
        raise unreadable("onnxruntime", error) from error
    return Session("onnxruntime", network)
