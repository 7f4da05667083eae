"""The files made from the delivered ONNX file for other runtimes, as the job asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from mtnas.base.errors import ModelError
from mtnas.base.files import write_json
from mtnas.base.progress import Progress
from mtnas.export.config import ExportConfig
from mtnas.export.manifest import Companion
from mtnas.export.openvino import FLOAT_TOLERANCE, INT8_TOLERANCE, export_openvino
from mtnas.export.tensorrt import build_engine, check_dialect
from mtnas.quantize.session import open_session, run_images


def write_companions(
    delivered: Path,
    float_model: Path,
    config: ExportConfig,
    image_BCHW: np.ndarray,
    *,
    progress: Progress | None = None,
) -> tuple[Companion, ...]:
    """Write `openvino/` and `tensorrt/` beside the delivered file; returns what the manifest lists.

    Args:
        delivered: the exported ONNX file.
        float_model: the float file it was made from; TensorRT takes it when the delivered one is int8 in another
            runtime's dialect.
        config: which companions are wanted.
        image_BCHW: normalised images to compare OpenVINO on.
        progress: shows a bar while an engine is built.
    """
    found: list[Companion] = []
    if config.openvino:
        found.extend(_openvino(delivered, image_BCHW))
    if config.tensorrt.enabled:
        found.append(_tensorrt(delivered, float_model, config, progress))
    return tuple(found)


def _openvino(delivered: Path, image_BCHW: np.ndarray) -> list[Companion]:
    folder = delivered.parent / "openvino"
    quantized = any(node.op_type == "QuantizeLinear" for node in onnx.load_model(str(delivered)).graph.node)
    tolerance = INT8_TOLERANCE if quantized else FLOAT_TOLERANCE
    reference = run_images(open_session(delivered), image_BCHW)
    result = export_openvino(delivered, folder, image_BCHW, reference, tolerance=tolerance)
    write_json(folder / "openvino.json", result.to_json())
    weights = Path(result.file).with_suffix(".bin").name
    return [
        Companion(f"openvino/{result.file}", result.sha256, "openvino", executed=result.executed),
        Companion(f"openvino/{weights}", result.weights_sha256, "openvino weights", executed=result.executed),
    ]


def _tensorrt(delivered: Path, float_model: Path, config: ExportConfig, progress: Progress | None) -> Companion:
    source = delivered
    try:
        check_dialect(onnx.load_model(str(delivered)))
    except ModelError:
        source = float_model
    result = build_engine(source, delivered.parent / "tensorrt", config.tensorrt, progress=progress)
    return Companion(f"tensorrt/{result.file}", result.sha256, "tensorrt", executed=result.executed)
