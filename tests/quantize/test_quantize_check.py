"""The report tells what onnxruntime really runs on integers, and why the rest does not."""

from __future__ import annotations

import json

import onnx
import onnxruntime
import pytest
from onnx_zoo import calibration, exported, images

from mtnas.base.errors import ExitCode, ModelError, VerificationFailed
from mtnas.quantize.check import int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.prepare import named
from mtnas.quantize.ptq import float_nodes, quantize_onnx
from mtnas.quantize.session import chunks, open_session, run_images


def test_a_float_file_reports_float_layers_only() -> None:
    report = int8_report(exported("residual"))
    layers = [node.name for node in exported("residual").graph.node if node.op_type in {"Conv", "Gemm"}]
    assert report.int8_nodes == 0 and sorted(node.name for node in report.float_layers) == sorted(layers)
    assert all("not quantized" in node.why for node in report.float_layers)
    with pytest.raises(VerificationFailed, match="runs as int8") as caught:
        report.require_int8()
    assert caught.value.exit_code == ExitCode.MISSED


def test_the_default_network_runs_as_int8_apart_from_resizing_and_pooling() -> None:
    model = exported("residual")
    config = QuantizeConfig()
    excluded = float_nodes(named(model), config)
    report = int8_report(quantize_onnx(model, calibration(1), config), excluded)
    assert {(node.op, node.why) for node in report.floats} == {
        ("Resize", "kept in float on purpose"),
        ("ReduceMean", "the runtime has no integer kernel for ReduceMean"),
    }
    assert {node.name for node in report.floats if node.op == "Resize"} == set(excluded)
    names = {node.name for node in model.graph.node}
    assert {name for name, _ in report.int8} <= names


def test_signed_symmetric_activations_run_as_float_and_the_report_says_so() -> None:
    """The trap this room exists for: TensorRT's dialect in onnxruntime."""
    quantized = quantize_onnx(exported("residual"), calibration(1), QuantizeConfig(dialect="tensorrt"))
    report = int8_report(quantized)
    assert report.int8_nodes == 0
    with pytest.raises(VerificationFailed):
        report.require_int8()


def test_a_head_without_a_quantizer_behind_it_is_named() -> None:
    quantized = quantize_onnx(exported("plain"), calibration(1), QuantizeConfig(float_upsampling=True))
    graph = quantized.graph
    resize = next(node for node in graph.node if node.op_type == "Resize")
    dequantize = next(node for node in graph.node if resize.input[0] in node.output)
    quantize = next(node for node in graph.node if dequantize.input[0] in node.output)
    head = next(node for node in graph.node if quantize.input[0] in node.output)
    resize.input[0] = head.output[0]
    graph.node.remove(dequantize)
    graph.node.remove(quantize)
    report = int8_report(quantized)
    assert [node.name for node in report.float_layers] == [head.name]
    assert report.float_layers[0].why == f"output {head.output[0]!r} is not quantized"


def test_shape_arithmetic_is_not_taken_for_layers() -> None:
    quantized = quantize_onnx(exported("high_resolution", True), calibration(1))
    assert {node.op for node in int8_report(quantized).floats} <= {"Resize", "ReduceMean"}


def test_the_report_is_json() -> None:
    data = json.loads(json.dumps(int8_report(quantize_onnx(exported("plain"), calibration(1))).to_json()))
    assert data["int8_nodes"] == 4 and {"name", "op", "why"} == set(data["float_nodes"][0])


# --- running files --------------------------------------------------------------------------------------------------


def test_any_number_of_images_runs_through_a_fixed_batch() -> None:
    fixed, dynamic = open_session(exported("plain")), open_session(exported("plain", True))
    for count in (1, 5):
        one, all_at_once = run_images(fixed, images(count)), run_images(dynamic, images(count))
        for task, value in all_at_once.items():
            assert one[task].shape == value.shape
            assert abs(one[task] - value).max() <= 1e-5 * abs(value).max()


def test_chunks_cover_all_images_once() -> None:
    sizes = [(len(part), count) for part, count in chunks(images(7), 3)]
    assert sizes == [(3, 3), (3, 3), (3, 1)]
    assert [count for _, count in chunks(images(7), None)] == [7]


def test_a_file_that_onnxruntime_cannot_load() -> None:
    with pytest.raises(ModelError, match="onnxruntime can load"):
        open_session(b"nonsense")
    newer = onnx.ModelProto()
    newer.CopyFrom(exported("plain"))
    newer.ir_version = 99
    with pytest.raises(ModelError):
        open_session(newer)


def test_the_optimised_graph_is_not_left_behind() -> None:
    assert onnxruntime.SessionOptions().optimized_model_filepath == ""


def test_layers_without_an_integer_kernel_are_named_and_may_stay_float() -> None:
    model = quantize_onnx(exported("unet"), calibration(1), QuantizeConfig())
    report = int8_report(model)
    transposed = {node.name for node in model.graph.node if node.op_type == "ConvTranspose"}
    assert transposed and set(report.without_kernel) == transposed
    report.require_int8(report.without_kernel)
