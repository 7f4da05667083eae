"""Runtimes by name. A new one: one file, one row, one class and row in `mtnas/device`."""

from __future__ import annotations

RUNTIMES: dict[str, str] = {
    "onnxruntime": "mtnas.measure.runtimes.onnxruntime_cpu:open_session",
    "openvino": "mtnas.measure.runtimes.openvino_cpu:open_session",
    "torch": "mtnas.measure.runtimes.torch_cpu:open_eager",
    "torch-compiled": "mtnas.measure.runtimes.torch_cpu:open_compiled",
    "torch-cuda": "mtnas.measure.runtimes.torch_gpu:open_eager",
    "torch-cuda-graph": "mtnas.measure.runtimes.torch_gpu:open_replayed",
    "torch-cuda-compiled": "mtnas.measure.runtimes.torch_gpu:open_compiled",
    "tensorrt": "mtnas.measure.runtimes.tensorrt_gpu:open_session",
    "tensorrt-graph": "mtnas.measure.runtimes.tensorrt_gpu:open_replayed",
}
