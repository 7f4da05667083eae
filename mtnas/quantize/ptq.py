"""Post-training static quantization: ranges from calibration images, Q/DQ pairs where the dialect wants them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mtnas.base.errors import DataError, JobError, ModelError
from mtnas.base.machine import cpu_info
from mtnas.base.optional import require
from mtnas.base.tables import nearest
from mtnas.graph.branches import SHARED
from mtnas.quantize import regions
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import CALIBRATORS, DIALECTS, Dialect
from mtnas.quantize.prepare import clean, named, opset_of
from mtnas.quantize.residual import free_main_paths
from mtnas.quantize.session import chunks

#: tells the quantizer that shapes are inferred already; otherwise it complains on the root logger
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def quantize_onnx(
    model: onnx.ModelProto, batches: Iterable[np.ndarray], config: QuantizeConfig | None = None
) -> onnx.ModelProto:
    """Quantize a float network to int8; the model given is left alone.

    Args:
        model: float network with batch-norm folded, one image input.
        batches: normalised float32 images (B, C, H, W) of the calibrate split, any batch size.
        config: dialect, calibrator and what stays float.
    """
    config = config or QuantizeConfig()
    dialect = DIALECTS[config.dialect]
    source = named(model)
    excluded = float_nodes(source, config)
    reader = _Reader(source, batches)
    with tempfile.TemporaryDirectory(prefix="mtnas-quantize-") as folder:
        quantized = _quantize(source, reader, config, dialect, excluded, Path(folder))
    if dialect.skip_inputs_only:
        free_main_paths(quantized)
    result = clean(quantized)
    if opset_of(result) != opset_of(model):
        raise ModelError(
            f"opset {opset_of(model)} kept",
            received=f"opset {opset_of(result)}",
            where="quantized model",
            cure="export with opset 20 or 21",
        )
    return result


def float_nodes(model: onnx.ModelProto, config: QuantizeConfig) -> list[str]:
    """Names of the nodes that the settings keep in float, in graph order."""
    return kept_in_float(named(model).graph, config)


def kept_in_float(graph: onnx.GraphProto, config: QuantizeConfig) -> list[str]:
    """The same for a graph whose nodes are named already."""
    outputs = [value.name for value in graph.output]
    kept: set[str] = set()
    for task in (*config.float_heads, *config.float_branches):
        if task not in outputs and not (task == SHARED and task in config.float_branches):
            raise JobError("a task of the model", received=repr(task), where="quantize", cure=nearest(task, outputs))
    for task in config.float_heads:
        layers, after = regions.output_layers(graph, task)
        kept.update(layers, after)
    for task in config.float_branches:
        kept.update(regions.shared(graph) if task == SHARED else regions.branch(graph, task))
    if config.float_upsampling:
        kept.update(name for task in outputs for name in regions.last_upsampling(graph, task))
    for pattern in config.float_nodes:
        found = [node.name for node in graph.node if fnmatchcase(node.name, pattern)]
        if not found:
            raise JobError(
                "a pattern that matches a node",
                received=repr(pattern),
                where="quantize.float_nodes",
                cure=nearest(pattern, [node.name for node in graph.node]),
            )
        kept.update(found)
    return [node.name for node in graph.node if node.name in kept]


def seven_bit(config: QuantizeConfig) -> bool:
    """Whether weights lose one bit: 16-bit sums of u8 x s8 products saturate on x64 CPUs without VNNI."""
    if config.seven_bit_weights != "auto":
        return config.seven_bit_weights == "yes"
    cpu = cpu_info()
    has_vnni = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu["features"])
    return DIALECTS[config.dialect].saturates_without_vnni and cpu["machine"] in {"x86_64", "AMD64"} and not has_vnni


def _quantize(
    source: onnx.ModelProto,
    reader: _Reader,
    config: QuantizeConfig,
    dialect: Dialect,
    excluded: list[str],
    folder: Path,
) -> onnx.ModelProto:
    tools = require("onnxruntime.quantization", why="quantizing")
    entry = source.metadata_props.add()
    entry.key, entry.value = _PREPARED
    before, after = folder / "float.onnx", folder / "int8.onnx"
    onnx.save_model(source, str(before))
    with _quiet():
        tools.quantize_static(
            str(before),
            str(after),
            reader,
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=list(dialect.op_types) or None,
            per_channel=True,
            reduce_range=seven_bit(config),
            activation_type=getattr(tools.QuantType, dialect.activations),
            weight_type=tools.QuantType.QInt8,
            nodes_to_exclude=excluded,
            calibrate_method=getattr(tools.CalibrationMethod, CALIBRATORS[config.calibrator]),
            extra_options=_options(dialect, config, source),
        )
    return onnx.load_model(str(after))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the root logger, and its default handler from being installed."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "quantization" not in record.pathname

    root.addHandler(handler)
    root.addFilter(from_elsewhere)
    try:
        yield
    finally:
        root.removeFilter(from_elsewhere)
        root.removeHandler(handler)


def _options(dialect: Dialect, config: QuantizeConfig, source: onnx.ModelProto) -> dict[str, Any]:
    options: dict[str, Any] = {
        "ActivationSymmetric": dialect.symmetric,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": dialect.float_weights,
        "QuantizeBias": dialect.quantize_bias,
        "DedicatedQDQPair": False,
        "QDQDisableWeightAdjustForInt32Bias": not dialect.quantize_bias,
    }
    if not dialect.quantize_outputs:
        options["OpTypesToExcludeOutputQuantization"] = sorted({node.op_type for node in source.graph.node})
    if config.calibrator == "percentile":
        options["CalibPercentile"] = config.percentile
    return options


class _Reader:
    """The quantizer's view of the calibration images: one dictionary a call, None at the end."""

    def __init__(self, model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> None:
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        if len(inputs) != 1:
            raise ModelError("one image input", received=f"{len(inputs)} inputs", where="model to quantize")
        self.name = inputs[0].name
        dims = inputs[0].type.tensor_type.shape.dim
        self.shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        self.images = 0
        self._parts = self._checked(batches)

    def _checked(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch_BCHW in batches:
            fits = batch_BCHW.ndim == len(self.shape) and all(
                want is None or want == got for want, got in zip(self.shape[1:], batch_BCHW.shape[1:])
            )
            if not fits or not np.isfinite(batch_BCHW).all():
                raise DataError(
                    f"finite images of shape {tuple(self.shape)}",
                    received=f"shape {batch_BCHW.shape}{'' if not fits else ' with NaN or infinity'}",
                    where="calibration batch",
                )
            self.images += len(batch_BCHW)
            for part, _ in chunks(batch_BCHW.astype(np.float32, copy=False), self.shape[0]):
                yield part
        if self.images == 0:
            cure = "raise data.calibrate and quantize.images"
            raise DataError("at least one calibration image", received="none", where="quantize", cure=cure)

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self._parts, None)
        return None if part is None else {self.name: part}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        item = self.get_next()
        if item is None:
            raise StopIteration
        return item
