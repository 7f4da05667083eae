"""Dialects: one quantized graph cannot serve all runtimes.

onnxruntime on x64 fuses a convolution into an integer kernel when its activations are unsigned with a zero point (the
ReLU disappears into the clamp), both inputs of an Add are quantized, and a quantizer follows the layer, heads included.
TensorRT takes symmetric int8 only, wants layer outputs left alone and, of a residual Add, only the skip input
quantized so that the Add fuses into the convolution's epilogue. OpenVINO reads both and covers more operators.
"""

from __future__ import annotations

from dataclasses import dataclass

CALIBRATORS: dict[str, str] = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@dataclass(frozen=True)
class Dialect:
    """Where quantize/dequantize pairs go and what they hold.

    Args:
        name: row of `DIALECTS`.
        runtime: who runs it as int8.
        activations: `QUInt8` (with zero point) or `QInt8`.
        symmetric: activation zero points are 0.
        quantize_outputs: a pair after each layer, head outputs included.
        skip_inputs_only: of a residual Add only the skip input keeps its pair.
        float_weights: weights stay float behind a Q/DQ pair instead of being stored as int8 behind a DQ.
        quantize_bias: biases are stored as int32.
        saturates_without_vnni: weights need seven bits on x64 CPUs that lack VNNI.
        op_types: operators that are quantized; empty means every operator the quantizer knows.
    """

    name: str
    runtime: str
    activations: str
    symmetric: bool
    quantize_outputs: bool
    skip_inputs_only: bool
    float_weights: bool
    quantize_bias: bool
    saturates_without_vnni: bool
    op_types: tuple[str, ...] = ()


_TENSORRT_OPS = (
    "Add",
    "AveragePool",
    "Clip",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Mul",
)

DIALECTS: dict[str, Dialect] = {
    "onnxruntime-x64": Dialect(
        name="onnxruntime-x64",
        runtime="onnxruntime",
        activations="QUInt8",
        symmetric=False,
        quantize_outputs=True,
        skip_inputs_only=False,
        float_weights=False,
        quantize_bias=True,
        saturates_without_vnni=True,
    ),
    "openvino": Dialect(
        name="openvino",
        runtime="openvino",
        activations="QUInt8",
        symmetric=False,
        quantize_outputs=False,
        skip_inputs_only=False,
        float_weights=False,
        quantize_bias=False,
        saturates_without_vnni=True,
    ),
    "tensorrt": Dialect(
        name="tensorrt",
        runtime="tensorrt",
        activations="QInt8",
        symmetric=True,
        quantize_outputs=False,
        skip_inputs_only=True,
        float_weights=True,
        quantize_bias=False,
        saturates_without_vnni=False,
        op_types=_TENSORRT_OPS,
    ),
}
