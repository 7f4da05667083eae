"""OpenVINO really reads, runs and saves what we export, float in f32 and int8 as int8."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_zoo import calibration, exported, images, reference

from mtnas.base.errors import ExitCode, ModelError, PackageMissing, VerificationFailed
from mtnas.export import openvino
from mtnas.export.onnx_file import write_onnx
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx
from mtnas.quantize.session import open_session, run_images

ov = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_float_file_runs_in_f32_and_is_saved(dynamic: bool, tmp_path: Path) -> None:
    path = write_onnx(exported("residual", dynamic), tmp_path / "model.onnx")
    image_BCHW = images(3)
    expected = reference("residual", image_BCHW)
    result = openvino.export_openvino(path, tmp_path / "openvino", image_BCHW, expected)
    assert result.precision == "f32" and result.executed
    assert set(result.layers) <= {"f32", "i32"}
    assert list(result.errors) == list(expected) and max(result.errors.values()) < 1e-5
    core = ov.Core()
    saved = core.compile_model(
        core.read_model(tmp_path / "openvino" / result.file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    again = openvino._run(saved, image_BCHW)
    for task, value in expected.items():
        np.testing.assert_allclose(again[task], value, atol=1e-5 * np.abs(value).max())


@pytest.mark.parametrize("dialect", ["openvino", "onnxruntime-x64"])
def test_every_convolution_of_an_int8_file_runs_on_eight_bits(dialect: str, tmp_path: Path) -> None:
    quantized = quantize_onnx(exported("residual"), calibration(), QuantizeConfig(dialect=dialect))
    path = write_onnx(quantized, tmp_path / "int8.onnx")
    expected = run_images(open_session(path), images())
    result = openvino.export_openvino(path, tmp_path, images(), expected, tolerance=openvino.INT8_TOLERANCE)
    assert result.layers.get("u8", 0) > 0
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = openvino.executed_layers(compiled)
    convolutions = [precision for kind, precision in layers if kind == "Convolution"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in exported("residual").graph.node)
    assert set(convolutions) <= {"u8", "i8"}


def test_a_wrong_or_missing_output_is_noticed(tmp_path: Path) -> None:
    path = write_onnx(exported("plain"), tmp_path / "model.onnx")
    expected = reference("plain", images(2))
    with pytest.raises(VerificationFailed, match="depth within"):
        openvino.export_openvino(path, tmp_path / "ov", images(2), {**expected, "depth": expected["depth"] + 1})
    with pytest.raises(VerificationFailed, match="no such output"):
        openvino.export_openvino(path, tmp_path / "ov", images(2), {"normals": expected["depth"]})
    assert not (tmp_path / "ov").exists()


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ModelError, match="OpenVINO can read"):
        openvino.export_openvino(path, tmp_path, images(1), {})


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(PackageMissing, match=r"mtnas\[openvino\]") as caught:
        openvino.export_openvino(tmp_path / "model.onnx", tmp_path, images(1), {})
    assert caught.value.exit_code == ExitCode.MISSING
