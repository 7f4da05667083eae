"""`mtnas.quantize`: int8 where it pays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from torch import Tensor, nn

from mtnas.api.data import Tasks
from mtnas.api.files import as_onnx
from mtnas.api.measuring import bench_settings
from mtnas.api.profiling import DeviceProfile
from mtnas.api.scores import OnnxModule, ScoreFn, Scorer, make_scorer
from mtnas.base.errors import DataError
from mtnas.base.progress import Progress
from mtnas.data.base import Dataset
from mtnas.measure.gate import Verdict, never_slower
from mtnas.quantize.check import Int8Report, int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.fallback import Goal, Quantized, quantize_within
from mtnas.quantize.ptq import float_nodes
from mtnas.stages.quantize import decide


@dataclass(frozen=True)
class QuantizeResult:
    """What quantization did.

    Args:
        delivered: `int8` or `float`.
        reason: why, in a sentence.
        float_model, int8_model: both networks.
        quantized: scores, drops, heads that went back to float.
        report: which nodes really run as int8 in onnxruntime.
        gate: int8 against float, measured side by side.
        dialect: of the int8 network.
    """

    delivered: str
    reason: str
    float_model: onnx.ModelProto
    int8_model: onnx.ModelProto
    quantized: Quantized
    report: Int8Report
    gate: Verdict
    dialect: str

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "quantize-result/1",
            "delivered": self.delivered,
            "reason": self.reason,
            **self.quantized.to_json(),
            **self.report.to_json(),
            "gate": self.gate.to_json(),
        }

    def __str__(self) -> str:
        floats = ", ".join(f"{node.name} ({node.why})" for node in self.report.float_layers)
        return f"{self.delivered}: {self.reason}" + (f"\n  in float: {floats}" if floats else "")


class QuantizedFile(NamedTuple):
    """`file, result = mtnas.quantize(...)`: the network to deliver, int8 or float, and how it came about."""

    model: onnx.ModelProto
    result: QuantizeResult


def quantize(
    model: nn.Module | onnx.ModelProto | str | Path,
    example_inputs: Tensor | None = None,
    *,
    batches: Iterable[Any] | None = None,
    score: ScoreFn | None = None,
    tasks: Tasks = None,
    data: Dataset | None = None,
    floors: Mapping[str, float | int | str] | None = None,
    lower_is_better: Sequence[str] = (),
    profile: DeviceProfile | str = "local-ort",
    config: QuantizeConfig | None = None,
    progress: Progress | None = None,
) -> QuantizedFile:
    """Make an int8 network for onnxruntime, and deliver it only if it is faster here and keeps every task's floor.

    A head that loses too much gets its float layers back, one at a time. The module given stays as it is.

    Args:
        model: `image (B,C,H,W) -> dict[task, Tensor]`, or a float ONNX network with an input `image`.
        example_inputs: normalised images (B,C,H,W); needed with a module.
        batches: normalised calibration images (B,C,H,W), or `(image_BCHW, targets)`; they set the ranges.
        score: `score(model) -> {task: value}` or one value; it gets the ONNX network as a module on the CPU.
        tasks, data: instead of `batches` and `score`: ranges from `calibrate`, primary metrics on `select`.
        floors: the worst score of a task, absolute or relative to the float network: `{"depth": "-3%"}`. A task
            without a floor may lose `config.max_drop_percent`.
        lower_is_better: names in `score` that are errors.
        profile: where int8 has to be faster: from `mtnas.profile`, or a device's name.
        config: dialect, calibration and what stays float.
        progress: shows one bar.

    Raises:
        DataError: no calibration images, or of another shape.
        JobError: floors without scores, or unknown names.
        VerificationFailed: this runtime computes layers in float that it has integer kernels for.
    """
    config = config or QuantizeConfig()
    images = _images(batches, data, config)
    float_model = as_onnx(model, example_inputs)
    outputs = tuple(value.name for value in float_model.graph.output)
    scorer = make_scorer(score, tasks, data, floors, lower_is_better, outputs)
    quantized = _quantized(float_model, images, config, scorer, progress)
    excluded = float_nodes(float_model, quantized.config)
    report = int8_report(quantized.model, excluded)
    report.require_int8((*excluded, *report.without_kernel))
    float_bytes, int8_bytes = (m.SerializeToString() for m in (float_model, quantized.model))
    gate = never_slower(float_bytes, int8_bytes, bench_settings(profile), progress=progress)
    delivered, reason = decide(gate, quantized, report)
    result = QuantizeResult(
        delivered, reason, float_model, quantized.model, quantized, report, gate, quantized.config.dialect
    )
    return QuantizedFile(quantized.model if delivered == "int8" else float_model, result)


def _quantized(
    model: onnx.ModelProto,
    images: Sequence[np.ndarray],
    config: QuantizeConfig,
    scorer: Scorer,
    progress: Progress | None,
) -> Quantized:
    before = scorer(OnnxModule(model))
    bounded = scorer.bounded(before)
    goals = {name: Goal(name not in scorer.lower_is_better, bounded.bounds.get(name)) for name in before}
    return quantize_within(
        model, images, config, goals=goals, score=lambda proto: scorer(OnnxModule(proto)), progress=progress
    )


def _images(batches: Iterable[Any] | None, data: Dataset | None, config: QuantizeConfig) -> list[np.ndarray]:
    """Calibration images, at most as many as configured."""
    if batches is None and data is None:
        raise DataError("calibration images", received="no batches= and no data=", where="quantize", cure="give one")
    if batches is None and data is not None:
        batches = data.split("calibrate").batches(config.batch_size, limit=config.images)
    found: list[np.ndarray] = []
    for batch in batches or ():
        image = batch[0] if isinstance(batch, (tuple, list)) else batch
        if not isinstance(image, Tensor) or image.dim() != 4:
            raise DataError(
                "images of shape (B,C,H,W), or (images, targets)", received=type(image).__name__, where="batches"
            )
        found.append(image.detach().cpu().float().numpy())
        if sum(map(len, found)) >= config.images:
            break
    return found
