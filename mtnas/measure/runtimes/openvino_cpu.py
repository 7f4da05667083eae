"""OpenVINO, CPU plugin, inference precision pinned to float32 and recorded."""

from __future__ import annotations

from mtnas.base.optional import require
from mtnas.device.openvino_cpu import OpenvinoNetwork
from mtnas.measure.runtimes.base import RuntimeOptions, Session, unreadable


def open_session(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes."""
    require("openvino", extra="openvino", why="running networks on this CPU")
    try:
        network = OpenvinoNetwork(model, options.threads, options.spinning)
    except Exception as error:  # openvino raises RuntimeError subclasses of several extension modules
        raise unreadable("openvino", error) from error
    return Session("openvino", network)
