"""The manifest says what the file is, and notices when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx_zoo import calibration, exported

from mtnas.base.errors import CheckpointError, ModelError, VerificationFailed
from mtnas.base.files import file_hash
from mtnas.export.manifest import Companion, Manifest, OutputInfo, make_manifest
from mtnas.export.onnx_file import write_onnx
from mtnas.quantize.ptq import quantize_onnx

OUTPUTS = (
    OutputInfo("depth", (), "depth", "m", "identity"),
    OutputInfo("label", (), "classification", "", "softmax", ("a", "b", "c", "d", "e")),
)


def made(folder: Path, dynamic: bool = False) -> Manifest:
    path = write_onnx(exported("plain", dynamic), folder / "model.onnx")
    manifest = make_manifest(path, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), outputs=OUTPUTS)
    manifest.save(folder / "manifest.json")
    return manifest


def test_shapes_hash_and_precision_come_from_the_file(tmp_path: Path) -> None:
    manifest = made(tmp_path)
    assert manifest.sha256 == file_hash(tmp_path / "model.onnx") and manifest.bytes > 1000
    assert manifest.input.shape == (1, 3, 32, 32) and manifest.input.name == "image"
    assert [output.shape for output in manifest.outputs] == [(1, 1, 32, 32), (1, 5)]
    assert (manifest.precision, manifest.dialect, manifest.opset, manifest.ir_version) == ("float32", "", 20, 10)
    assert not manifest.dynamic_batch and "onnx" in manifest.versions


def test_an_int8_file_and_a_dynamic_one_are_told_apart(tmp_path: Path) -> None:
    assert made(tmp_path, dynamic=True).input.shape[0] == "batch"
    path = write_onnx(quantize_onnx(exported("plain"), calibration(1)), tmp_path / "int8.onnx")
    manifest = make_manifest(path, mean=(0,), std=(1,), outputs=OUTPUTS, dialect="onnxruntime-x64")
    assert (manifest.precision, manifest.dialect) == ("int8", "onnxruntime-x64")


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = made(tmp_path)
    assert Manifest.load(tmp_path / "manifest.json") == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["schema"] == "manifest/1"


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    manifest = made(tmp_path)
    path = tmp_path / "model.onnx"
    assert manifest.check(tmp_path) == path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailed, match="changed after it was exported"):
        manifest.check(tmp_path)
    path.unlink()
    with pytest.raises(VerificationFailed, match="no file"):
        manifest.check(tmp_path)


def test_companions_are_checked_too(tmp_path: Path) -> None:
    path = write_onnx(exported("plain"), tmp_path / "model.onnx")
    (tmp_path / "model.engine").write_bytes(b"engine")
    engine = Companion("model.engine", file_hash(tmp_path / "model.engine"), "tensorrt", executed=False)
    manifest = make_manifest(path, mean=(0,), std=(1,), outputs=OUTPUTS, companions=[engine])
    assert manifest.to_json()["companions"][0]["executed"] is False
    manifest.check(tmp_path)
    (tmp_path / "model.engine").write_bytes(b"another")
    with pytest.raises(VerificationFailed, match=r"model\.engine"):
        manifest.check(tmp_path)


def test_outputs_must_be_the_files_in_order(tmp_path: Path) -> None:
    path = write_onnx(exported("plain"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="'label', 'depth'"):
        make_manifest(path, mean=(0,), std=(1,), outputs=OUTPUTS[::-1])


@pytest.mark.parametrize("damage", [{"schema": "manifest/0"}, {"sha256": None}, {"extra": 1}])
def test_a_damaged_manifest_is_refused(damage: dict, tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "manifest.json"
    data = {**json.loads(path.read_text()), **damage}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    with pytest.raises(CheckpointError):
        Manifest.load(path)
