"""Runtimes by name. A new one: one file, one row, one class and row in `mtnas/device`."""

from __future__ import annotations

RUNTIMES: dict[str, str] = {
    "onnxruntime": "mtnas.measure.runtimes.onnxruntime_cpu:open_session",
    "openvino": "mtnas.measure.runtimes.openvino_cpu:open_session",
}
