"""OpenVINO models from an ONNX file, read, compared and saved.

On CPUs with bf16 OpenVINO computes float networks in bf16 unless told otherwise; the inference precision is pinned to
f32 and read back, so that a comparison means what it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mtnas.base.errors import ModelError, VerificationFailed
from mtnas.base.files import file_hash, make_folder
from mtnas.base.optional import require
from mtnas.quantize.session import chunks

#: two runtimes' float kernels, relative to the output's scale
FLOAT_TOLERANCE = 1e-4
#: int8: both requantize in their own order, and differ by quanta; measured 0.02-0.05 on networks of ten layers
INT8_TOLERANCE = 0.2
_NOT_LAYERS = frozenset({"Const", "Input", "Output", "Reorder", "Reshape", "ShapeOf"})


@dataclass(frozen=True)
class OpenVINOResult:
    """A saved OpenVINO model and what it computed here.

    Args:
        file, sha256: the model's XML; its weights lie beside it as `.bin`.
        weights_sha256: of the weights.
        errors: per task, the largest difference from the reference relative to the output's scale.
        precision: inference precision as the compiled model reports it.
        layers: executed layers by runtime precision.
    """

    file: str
    sha256: str
    weights_sha256: str
    errors: Mapping[str, float]
    precision: str
    layers: Mapping[str, int]
    version: str
    executed: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"schema": "openvino/1", **asdict(self)}


def export_openvino(
    onnx_path: Path,
    out: Path,
    image_BCHW: np.ndarray,
    reference: Mapping[str, np.ndarray],
    *,
    tolerance: float = FLOAT_TOLERANCE,
) -> OpenVINOResult:
    """Convert, run and save: `out/<name>.xml` and `.bin`.

    Args:
        onnx_path: the exported file.
        out: folder to write to.
        image_BCHW: images to compare on.
        reference: outputs expected for them, by task.
        tolerance: largest error allowed, relative to an output's scale.

    Raises:
        VerificationFailed: an output is missing or differs by more than the tolerance.
    """
    ov = require("openvino", extra="openvino", why="OpenVINO models")
    core = ov.Core()
    model = _read(core, onnx_path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    outputs = _run(compiled, image_BCHW)
    errors = {task: _error(task, value, outputs, onnx_path) for task, value in reference.items()}
    worst = max(errors, key=lambda task: errors[task])
    if not errors[worst] <= tolerance:
        raise VerificationFailed(
            f"{worst} within {tolerance:g} of the reference",
            received=f"{errors[worst]:.3g}",
            where=f"OpenVINO, {onnx_path}",
            cure="deliver the ONNX file, or report the model to OpenVINO",
        )
    path = make_folder(out) / f"{onnx_path.stem}.xml"
    ov.save_model(model, str(path), compress_to_fp16=False)
    return OpenVINOResult(
        file=path.name,
        sha256=file_hash(path),
        weights_sha256=file_hash(path.with_suffix(".bin")),
        errors=errors,
        precision=compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        layers=executed_precisions(compiled),
        version=_version(ov),
    )


def executed_precisions(compiled: Any) -> dict[str, int]:
    """Executed layers by the precision they really ran in: `{"f32": 3, "u8": 12}`."""
    counts = Counter(precision for kind, precision in executed_layers(compiled) if kind not in _NOT_LAYERS)
    return dict(sorted(counts.items()))


def executed_layers(compiled: Any) -> list[tuple[str, str]]:
    """Kind and runtime precision of everything in the compiled model, in order: `("Convolution", "u8")`."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return [(str(_plain(info["layerType"])), str(_plain(info["runtimePrecision"]))) for info in infos]


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value


def _read(core: Any, onnx_path: Path) -> Any:
    try:
        return core.read_model(str(onnx_path))
    except RuntimeError as error:
        raise ModelError(
            "an ONNX file that OpenVINO can read", received=str(error)[:500], where=str(onnx_path)
        ) from error


def _run(compiled: Any, image_BCHW: np.ndarray) -> dict[str, np.ndarray]:
    dimension = compiled.inputs[0].get_partial_shape()[0]
    size = None if dimension.is_dynamic else dimension.get_length()
    rows: dict[str, list[np.ndarray]] = {}
    for part, count in chunks(np.ascontiguousarray(image_BCHW, dtype=np.float32), size):
        result = compiled([part])
        for port in compiled.outputs:
            rows.setdefault(port.get_any_name(), []).append(np.array(result[port])[:count])
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _error(task: str, expected: np.ndarray, outputs: Mapping[str, np.ndarray], path: Path) -> float:
    value = outputs.get(task)
    if value is None or value.shape != expected.shape:
        received = "no such output" if value is None else f"shape {value.shape}"
        raise VerificationFailed(f"output {task!r} of shape {expected.shape}", received=received, where=str(path))
    return float(np.abs(value - expected).max() / (float(np.abs(expected).max()) or 1.0))


def _version(ov: ModuleType) -> str:
    return str(getattr(ov, "__version__", ""))
