"""Running ONNX files with onnxruntime on the CPU: accuracy and calibration, never timing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mtnas.base.errors import ModelError
from mtnas.base.optional import require

_LOG_ERRORS = 3


def open_session(model: onnx.ModelProto | bytes | Path, *, threads: int = 1, optimised_to: Path | None = None) -> Any:
    """An onnxruntime session on the CPU, optimised fully; `optimised_to` also saves what will run, for reading only."""
    runtime = require("onnxruntime", why="running ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    if optimised_to is not None:
        options.optimized_model_filepath = str(optimised_to)
    source: bytes | str = (
        model.SerializeToString()
        if isinstance(model, onnx.ModelProto)
        else str(model)
        if isinstance(model, Path)
        else model
    )
    try:
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        where = str(model) if isinstance(model, Path) else "ONNX model"
        raise ModelError("a file that onnxruntime can load", received=str(error)[:500], where=where) from error


def fixed_batch(session: Any) -> int | None:
    """The batch size baked into the first input, or None when it is dynamic."""
    size = session.get_inputs()[0].shape[0]
    return size if isinstance(size, int) else None


def chunks(image_BCHW: np.ndarray, size: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of exactly `size` images and how many of them count; the last one is padded with its first image."""
    if size is None:
        yield image_BCHW, len(image_BCHW)
        return
    for start in range(0, len(image_BCHW), size):
        part = image_BCHW[start : start + size]
        short = size - len(part)
        yield (np.concatenate([part, np.repeat(part[:1], short, axis=0)]) if short else part), len(part)


def run_images(session: Any, image_BCHW: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs by name for any number of images, whatever batch size the file has."""
    name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    collected: list[list[np.ndarray]] = []
    for part, count in chunks(np.ascontiguousarray(image_BCHW, dtype=np.float32), fixed_batch(session)):
        collected.append([value[:count] for value in session.run(names, {name: part})])
    return {name: np.concatenate([row[i] for row in collected]) for i, name in enumerate(names)}
