"""ONNX files: from any plain torch module, or from a graph that was cut; checked, portable, one file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from mtnas.base.errors import ModelError, StaleStatistics, VerificationFailed
from mtnas.base.files import write_bytes
from mtnas.export.config import ExportConfig
from mtnas.quantize.prepare import MAX_IR_VERSION, OPSETS, clean, opset_of
from mtnas.quantize.session import open_session, run_images

INPUT = "image"
#: ONNX files hold at most 2 GB in one piece; networks for devices are far below
_MAX_BYTES = 2**31 - 1
#: other batch sizes a dynamic file is run with; exporting was done with 2
_TRIAL_BATCHES = (1, 3)
#: float rounding between torch's and onnxruntime's kernels, relative to the output's scale
_BATCH_TOLERANCE = 1e-4


def write_onnx(model: onnx.ModelProto, path: Path) -> Path:
    """Clean, check and write an ONNX model as one file; equal models give equal bytes.

    Raises:
        ModelError: wrong opset or IR version, or `onnx.checker` refuses the model.
        StaleStatistics: the model was cut without batch-norm statistics of its own.
    """
    portable = clean(model)
    if any(note.key == "mtnas.statistics" and note.value == "full" for note in portable.metadata_props):
        raise StaleStatistics(
            "batch-norm statistics of the network itself",
            received="those of the full-size network",
            where=str(path),
            cure="cut it with `statistics=elastic.statistics(selection)`",
        )
    opset = opset_of(portable)
    if opset not in OPSETS or portable.ir_version > MAX_IR_VERSION:
        raise ModelError(
            f"opset {OPSETS[0]} to {OPSETS[-1]}, IR version at most {MAX_IR_VERSION}",
            received=f"opset {opset}, IR version {portable.ir_version}",
            where=str(path),
            cure="export with opset 20 or 21",
        )
    data = portable.SerializeToString(deterministic=True)
    if len(data) > _MAX_BYTES:
        raise ModelError("a model below 2 GB", received=f"{len(data) / 1e9:.1f} GB", where=str(path))
    try:
        onnx.checker.check_model(portable, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError("a model that onnx.checker accepts", received=str(error)[:500], where=str(path)) from error
    write_bytes(path, data)
    return path


def export_onnx(
    model: nn.Module, example_BCHW: Tensor, path: Path, config: ExportConfig | None = None
) -> onnx.ModelProto:
    """Export a plain module with torch's exporter and write it; the model's mode is restored.

    A dynamic batch is not believed but run: two other batch sizes must give torch's outputs.

    Args:
        model: `image (B,C,H,W) -> dict[task, Tensor]`.
        example_BCHW: one batch of normalised images; its size is the file's batch unless that is dynamic.
        path: the file to write.
        config: opset and dynamic batch.
    """
    config = config or ExportConfig()
    training = model.training
    model.eval()
    try:
        proto = _exported(model, example_BCHW, config)
        write_onnx(proto, path)
        if config.dynamic_batch:
            _run_other_batches(model, example_BCHW, path)
    finally:
        model.train(training)
    return onnx.load_model(str(path))


def reference_outputs(model: nn.Module, image_BCHW: Tensor) -> dict[str, np.ndarray]:
    """The model's outputs by task as arrays; raises `ModelError` when it breaks the contract."""
    with torch.no_grad():
        outputs = model(image_BCHW)
    if not isinstance(outputs, Mapping) or not outputs or not all(isinstance(v, Tensor) for v in outputs.values()):
        raise ModelError(
            "forward(image) returns a dict of task name to tensor",
            received=type(outputs).__name__,
            where=type(model).__name__,
        )
    return {str(name): value.float().cpu().numpy() for name, value in outputs.items()}


def _exported(model: nn.Module, example_BCHW: Tensor, config: ExportConfig) -> onnx.ModelProto:
    example = torch.cat([example_BCHW, example_BCHW])[:2] if config.dynamic_batch else example_BCHW
    names = list(reference_outputs(model, example))
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                model,
                (example,),
                input_names=[INPUT],
                output_names=names,
                opset_version=config.opset,
                dynamic_shapes=({0: "batch"},) if config.dynamic_batch else None,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            "a model that torch can export to ONNX",
            received=str(error)[:800],
            where=type(model).__name__,
            cure="avoid control flow that depends on tensor values in forward()",
        ) from error
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks on stdout, on its logger and through warnings; none of it is for our user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run_other_batches(model: nn.Module, example_BCHW: Tensor, path: Path) -> None:
    session = open_session(path)
    for size in _TRIAL_BATCHES:
        repeats = -(-size // len(example_BCHW))
        image = torch.cat([example_BCHW.flip(-1)] * repeats)[:size]
        expected = reference_outputs(model, image)
        try:
            received = run_images(session, image.numpy())
        except Exception as error:  # onnxruntime raises many unrelated kinds
            raise _batch_error(path, f"batch {size} does not run: {str(error)[:300]}") from error
        for name, value in expected.items():
            scale = float(np.abs(value).max()) or 1.0
            if received[name].shape != value.shape or np.abs(received[name] - value).max() > _BATCH_TOLERANCE * scale:
                raise _batch_error(path, f"output {name!r} is wrong at batch {size}")


def _batch_error(path: Path, received: str) -> VerificationFailed:
    return VerificationFailed(
        "a file that runs with any batch size",
        received=received,
        where=str(path),
        cure="set export.dynamic_batch: false, or avoid view() with fixed sizes in the model",
    )
