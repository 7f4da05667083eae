"""Exporting, quantizing and verifying through the public functions, with and without data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from api_subject import QUICK, Chain, Ready, example, same, state_of
from torch import Tensor
from zoo import image

import mtnas
from mtnas.base.errors import BudgetMissed, DataError, FloorMissed, JobError, VerificationFailed
from mtnas.export.config import ExportConfig
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.session import open_session, run_images


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol of a device by name, without patience."""
    monkeypatch.setattr("mtnas.api.measuring.device_config", lambda device: QUICK)


def outputs(path: Path, image_BCHW: Tensor) -> np.ndarray:
    return run_images(open_session(path), image_BCHW.numpy())["depth"]


def test_a_module_without_data(tmp_path: Path) -> None:
    model = Chain(norm=True).train()
    before = state_of(model)
    exported = mtnas.export(model, example(), tmp_path / "net.onnx", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    assert exported.path == tmp_path / "net.onnx" and exported.manifest.input.std == (0.2, 0.2, 0.2)
    assert exported.manifest.outputs[0].task == "depth" and exported.manifest.outputs[0].type == ""
    assert same(before, model) and model.training
    with torch.no_grad():
        expected = model.eval()(image(1))["depth"].numpy()
    np.testing.assert_allclose(outputs(exported.path, image(1)), expected, atol=1e-5)
    verdict = mtnas.verify(exported, model, image(4), profile="local-ort", budget={"size_mb": 1.0, "params": 10**6})
    verdict.require()
    assert verdict.met and str(verdict).startswith("depth: ok")


def test_an_open_batch(tmp_path: Path) -> None:
    exported = mtnas.export(Chain(), example(), tmp_path, config=ExportConfig(dynamic_batch=True, opset=21))
    assert exported.manifest.dynamic_batch and exported.manifest.opset == 21
    assert outputs(exported.path, image(3)).shape == (3, 1, 16, 16)


def test_the_file_of_another_network_fails(tmp_path: Path) -> None:
    exported = mtnas.export(Chain(), example(), tmp_path)
    other = Chain()
    with torch.no_grad():
        other.depth.weight[0, 0] += 1.0
    verdict = mtnas.verify(tmp_path, other, image(2))
    assert not verdict.passed and not verdict.met
    with pytest.raises(VerificationFailed, match="depth within"):
        verdict.require()
    exported.path.write_bytes(exported.path.read_bytes() + b" ")
    with pytest.raises(VerificationFailed, match="sha256"):
        mtnas.verify(exported, Chain(), image(2))


def test_a_missed_budget_is_told(tmp_path: Path) -> None:
    exported = mtnas.export(Chain(), example(), tmp_path)
    verdict = mtnas.verify(exported, Chain(), image(2), budget={"latency_ms": 1e-6})
    assert verdict.passed and not verdict.met
    with pytest.raises(BudgetMissed, match="missed by"):
        verdict.require()
    with pytest.raises(JobError, match="costs of the unpruned network for percent limits"):
        mtnas.verify(exported, Chain(), image(2), budget={"latency_ms": "50%"})


def test_floors_of_an_exported_file(ready: Ready, tmp_path: Path) -> None:
    network = ready.elastic.extract(ready.elastic.space.smallest)
    exported = mtnas.export(network, example(), tmp_path, data=ready.data)
    assert [o.type for o in exported.manifest.outputs] == ["segmentation", "edges"]
    assert mtnas.verify(exported, network, data=ready.data, floors={"segmentation": "-10%"}).passed
    verdict = mtnas.verify(exported, network, data=ready.data, floors={"segmentation": 101.0})
    with pytest.raises(FloorMissed, match="segmentation"):
        verdict.require()
    with pytest.raises(JobError, match="floors of scored tasks"):
        mtnas.verify(exported, network, image(2), floors={"segmentation": 1.0})
    with pytest.raises(JobError, match="images= or data="):
        mtnas.verify(exported, network)


def depth_level(network: torch.nn.Module) -> float:
    return float(network(image(2))["depth"].std())


def test_quantizing_with_the_users_own_function(tmp_path: Path) -> None:
    """The function that scores modules scores files too; what comes back may be exported and verified."""
    model = Chain(norm=True)
    before = state_of(model)
    batches = [image(4, seed=k) for k in range(3)]
    config = QuantizeConfig(max_drop_percent=50.0)
    quantization = mtnas.quantize(model, example(), batches=batches, score=depth_level, config=config)
    file, result = quantization
    assert isinstance(file, onnx.ModelProto) and result.report.int8_nodes >= 2
    assert (result.delivered == "int8") == (result.quantized.kept and result.gate.verdict == "faster")
    assert result.quantized.float_scores["score"] == pytest.approx(depth_level(model.eval()), rel=1e-4)
    assert same(before, model.train()) and result.delivered in str(result)
    exported = mtnas.export(quantization, example(), tmp_path)
    assert exported.manifest.precision == ("int8" if result.delivered == "int8" else "float32")
    assert (exported.float_path != exported.path) == (result.delivered == "int8")
    assert mtnas.verify(exported, model, image(4)).passed


def test_an_onnx_file_can_be_quantized(tmp_path: Path) -> None:
    exported = mtnas.export(Chain(), example(), tmp_path)
    _, result = mtnas.quantize(exported.path, batches=[(image(4), {})], score=depth_level)
    assert result.report.int8_nodes >= 2


def test_what_quantizing_refuses(ready: Ready) -> None:
    with pytest.raises(DataError, match="calibration images"):
        mtnas.quantize(Chain(), example())
    with pytest.raises(DataError, match="images of shape"):
        mtnas.quantize(Chain(), example(), batches=[torch.zeros(3)])
    with pytest.raises(JobError, match="give score="):
        mtnas.quantize(Chain(), example(), batches=[image()], floors={"depth": "-1%"})
    with pytest.raises(JobError, match="example_inputs"):
        mtnas.quantize(Chain(), batches=[image()])
    with pytest.raises(JobError, match="tasks out of the network's outputs"):
        mtnas.quantize(Chain(), example(), data=ready.data, tasks=["edges"])
