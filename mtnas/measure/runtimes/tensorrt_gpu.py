"""TensorRT on an NVIDIA GPU, engines built on it. Not executed yet."""

from __future__ import annotations

from mtnas.base.optional import require
from mtnas.device.tensorrt_network import TensorrtGraphNetwork, TensorrtNetwork
from mtnas.measure.runtimes.base import RuntimeOptions, Session, open_network


def open_session(model: bytes, options: RuntimeOptions) -> Session:
    """Build or find the engine of these ONNX bytes and open it."""
    require("tensorrt", extra="tensorrt", why="running networks on an NVIDIA GPU")
    return open_network("tensorrt", TensorrtNetwork, model, options)


def open_replayed(model: bytes, options: RuntimeOptions) -> Session:
    """The same, the launches of a run recorded once as a CUDA graph and replayed."""
    require("tensorrt", extra="tensorrt", why="running networks on an NVIDIA GPU")
    return open_network("tensorrt-graph", TensorrtGraphNetwork, model, options)
