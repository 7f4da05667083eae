"""ONNX files: portable, checked, equal to torch, honest about their batch."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import zoo
from onnx_zoo import calibration, exported, images, reference
from torch import Tensor, nn

from mtnas.base.errors import JobError, ModelError, StaleStatistics, VerificationFailed
from mtnas.export.config import ExportConfig
from mtnas.export.onnx_file import export_onnx, write_onnx
from mtnas.quantize.ptq import quantize_onnx
from mtnas.quantize.session import open_session, run_images

#: torch and onnxruntime sum in different orders
ROUNDING = 1e-5


@pytest.mark.parametrize(("name", "dynamic"), [("residual", False), ("high_resolution", True), ("flatten", True)])
def test_an_exported_file_computes_what_torch_computes(name: str, dynamic: bool, tmp_path: Path) -> None:
    path = write_onnx(exported(name, dynamic), tmp_path / "model.onnx")
    image_BCHW = images(3)
    expected = reference(name, image_BCHW)
    outputs = run_images(open_session(path), image_BCHW)
    assert list(outputs) == list(expected)
    for task, value in expected.items():
        np.testing.assert_allclose(outputs[task], value, atol=ROUNDING * np.abs(value).max())


def test_a_file_is_one_piece_of_old_enough_parts_without_traces(tmp_path: Path) -> None:
    path = write_onnx(exported("residual"), tmp_path / "model.onnx")
    model = onnx.load_model(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert model.ir_version <= 10 and model.opset_import[0].version == 20
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["segmentation", "depth", "presence"]
    assert not model.metadata_props and not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in path.read_bytes() and b"zoo.py" not in path.read_bytes()


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    first = write_onnx(exported("plain"), tmp_path / "a.onnx").read_bytes()
    again = write_onnx(onnx.load_model(str(tmp_path / "a.onnx")), tmp_path / "b.onnx").read_bytes()
    assert first == again


def test_dynamic_batch_is_open_and_fixed_batch_is_not() -> None:
    assert exported("plain", True).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert exported("plain", False).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


class BakedBatch(nn.Module):
    """Works for a batch of two only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.conv(image)
        return {"depth": x.reshape(2, 2, *x.shape[2:])}


def test_a_batch_that_is_baked_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises((VerificationFailed, ModelError)):
        export_onnx(BakedBatch(), zoo.image(1), tmp_path / "model.onnx", ExportConfig(dynamic_batch=True))


def test_the_batch_trial_notices_a_wrong_output(tmp_path: Path) -> None:
    from mtnas.export.onnx_file import _run_other_batches

    model = onnx.ModelProto()
    model.CopyFrom(exported("plain", True))
    bias = next(t for t in model.graph.initializer if "depth" in t.name and "bias" in t.name)
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    path = write_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(VerificationFailed, match="'depth' is wrong at batch 1"):
        _run_other_batches(zoo.build("plain"), zoo.image(1), path)


class Bare(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image


class Branching(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": image if image.sum() > 0 else -image}


def test_models_that_break_the_contract_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dict of task name"):
        export_onnx(Bare(), zoo.image(1), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="can export to ONNX"):
        export_onnx(Branching(), zoo.image(1), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("first_export")
def test_exporting_is_silent_and_leaves_the_model_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    model = zoo.build("plain").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    level = logging.getLogger("torch.onnx").level
    export_onnx(model, zoo.image(1), tmp_path / "model.onnx")
    assert model.training and logging.getLogger("torch.onnx").level == level
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert capfd.readouterr() == ("", "") and not recwarn.list


@pytest.mark.parametrize(("opset", "ir"), [(17, 8), (23, 10)])
def test_other_opsets_are_refused(opset: int, ir: int, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported("plain"))
    model.opset_import[0].version, model.ir_version = opset, ir
    with pytest.raises(ModelError, match=f"opset {opset}"):
        write_onnx(model, tmp_path / "model.onnx")


def test_a_broken_graph_is_refused(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported("plain"))
    model.graph.node[0].input[0] = "nobody"
    with pytest.raises(ModelError, match=r"onnx\.checker"):
        write_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_newer_ir_version_is_lowered(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported("plain"))
    model.ir_version = 13
    assert onnx.load_model(str(write_onnx(model, tmp_path / "model.onnx"))).ir_version == 10


def test_statistics_of_another_network_are_refused_also_after_quantizing(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported("plain"))
    onnx.helper.set_model_props(model, {"mtnas.statistics": "full", "secret": "a path"})
    for stale in (model, quantize_onnx(model, calibration(1))):
        with pytest.raises(StaleStatistics, match="full-size network"):
            write_onnx(stale, tmp_path / "model.onnx")
    onnx.helper.set_model_props(model, {"mtnas.statistics": "selection", "secret": "a path"})
    written = onnx.load_model(str(write_onnx(model, tmp_path / "model.onnx")))
    assert [entry.key for entry in written.metadata_props] == ["mtnas.statistics"]


def test_bad_opset_setting() -> None:
    with pytest.raises(JobError, match=r"export\.opset"):
        ExportConfig(opset=18)
