"""Companions of the delivered file: OpenVINO for real, TensorRT by its stand-in, each listed in the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx_zoo import calibration, exported, images
from trt_standin import standin

from mtnas.export import tensorrt
from mtnas.export.companions import write_companions
from mtnas.export.config import ExportConfig, TensorRTConfig
from mtnas.export.manifest import OutputInfo, make_manifest
from mtnas.export.onnx_file import write_onnx
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    path = write_onnx(exported("plain"), tmp_path / "model.onnx")
    assert write_companions(path, path, ExportConfig(), images(2)) == ()
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("quantized", [False, True])
def test_openvino_is_run_saved_and_hashed(quantized: bool, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    model = quantize_onnx(exported("plain"), calibration(1)) if quantized else exported("plain")
    path = write_onnx(model, tmp_path / "model.onnx")
    found = write_companions(path, path, ExportConfig(openvino=True), images(2))
    assert [item.file for item in found] == ["openvino/model.xml", "openvino/model.bin"]
    assert all(item.executed for item in found)
    outputs = [OutputInfo("depth", ()), OutputInfo("label", ())]
    manifest = make_manifest(path, mean=(0,), std=(1,), outputs=outputs, companions=found)
    assert manifest.check(tmp_path) == path
    assert json.loads((tmp_path / "openvino" / "openvino.json").read_text())["precision"] == "f32"


@pytest.mark.parametrize("dialect", ["tensorrt", "onnxruntime-x64"])
def test_tensorrt_takes_the_float_file_where_the_dialect_is_another(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = quantize_onnx(exported("plain"), calibration(1), QuantizeConfig(dialect=dialect))
    path = write_onnx(delivered, tmp_path / "model.onnx")
    float_path = write_onnx(exported("plain"), tmp_path / "float.onnx")
    module = standin("11.4")
    monkeypatch.setattr(tensorrt, "require", lambda *_, **__: module)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda: "Thor")
    config = ExportConfig(tensorrt=TensorRTConfig(enabled=True))
    (companion,) = write_companions(path, float_path, config, images(1))
    assert companion.kind == "tensorrt" and not companion.executed
    expected = "model" if dialect == "tensorrt" else "float"
    assert companion.file.startswith(f"tensorrt/{expected}-")
    assert (tmp_path / companion.file).exists()
