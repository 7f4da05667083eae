"""Runtimes as the device sees them, by name. A new one: one file here, one row, and one in `measure/runtimes`.

A class takes (model: bytes or path, threads, spinning) and has `package`, the module whose `__version__` decides a
number, `version`, `options`, `inputs`, `outputs`, `run`, `bind` and `close`; it may have `layers`, `peak_mb` and
`lacks`, and its bound calls `timed`. `mtnas/measure/runtimes/base.py` holds the contract.
"""

from __future__ import annotations

import importlib
from typing import Any

NETWORKS = {
    "onnxruntime": "mtnas.device.onnxruntime_cpu:OnnxruntimeNetwork",
    "openvino": "mtnas.device.openvino_cpu:OpenvinoNetwork",
    "torch": "mtnas.device.torch_network:TorchNetwork",
    "torch-compiled": "mtnas.device.torch_network:TorchCompiledNetwork",
    "torch-cuda": "mtnas.device.torch_cuda:TorchCudaNetwork",
    "torch-cuda-graph": "mtnas.device.torch_cuda:TorchCudaGraphNetwork",
    "torch-cuda-compiled": "mtnas.device.torch_cuda:TorchCudaCompiledNetwork",
    "tensorrt": "mtnas.device.tensorrt_network:TensorrtNetwork",
    "tensorrt-graph": "mtnas.device.tensorrt_network:TensorrtGraphNetwork",
}


def network_class(runtime: str) -> Any:
    """The class of one runtime; its file is imported only now."""
    if runtime not in NETWORKS:
        raise ValueError("expected a runtime of " + str(sorted(NETWORKS)) + ", received " + repr(runtime))
    module, name = NETWORKS[runtime].split(":")
    return getattr(importlib.import_module(module), name)


def runtime_version(runtime: str) -> str:
    """The version of the library behind a runtime; raises `ImportError` where it is missing."""
    return str(importlib.import_module(network_class(runtime).package).__version__)
