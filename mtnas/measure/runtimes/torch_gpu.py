"""torch on an NVIDIA GPU: eager, replayed as a CUDA graph, or compiled and replayed. Not executed yet."""

from __future__ import annotations

from mtnas.measure.runtimes.base import RuntimeOptions, Session, open_network


def open_eager(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes; every operator is launched by itself."""
    from mtnas.device.torch_cuda import TorchCudaNetwork

    return open_network("torch-cuda", TorchCudaNetwork, model, options)


def open_replayed(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes; the launches of a run are recorded once and replayed."""
    from mtnas.device.torch_cuda import TorchCudaGraphNetwork

    return open_network("torch-cuda-graph", TorchCudaGraphNetwork, model, options)


def open_compiled(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes, compile it, and replay the launches of a run."""
    from mtnas.device.torch_cuda import TorchCudaCompiledNetwork

    return open_network("torch-cuda-compiled", TorchCudaCompiledNetwork, model, options)
