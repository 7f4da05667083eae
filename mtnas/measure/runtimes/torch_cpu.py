"""torch on this CPU: eager, or compiled by its inductor."""

from __future__ import annotations

from mtnas.measure.runtimes.base import RuntimeOptions, Session, open_network


def open_eager(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes; operators run one by one."""
    from mtnas.device.torch_network import TorchNetwork

    return open_network("torch", TorchNetwork, model, options)


def open_compiled(model: bytes, options: RuntimeOptions) -> Session:
    """Open a network from its ONNX bytes and compile it, which takes seconds to minutes."""
    from mtnas.device.torch_network import TorchCompiledNetwork

    return open_network("torch-compiled", TorchCompiledNetwork, model, options)
