"""Certificates of real files, and the rule that decides them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtnas.base.errors import CheckpointError, DeviceMissing, JobError
from mtnas.base.files import file_hash
from mtnas.base.quantity import Counted, Measured, Predicted
from mtnas.measure.certify import certify, judge_latency
from mtnas.measure.config import MeasureConfig
from mtnas.measure.memory import peak_memory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, chain: Callable[..., bytes]) -> Path:
    path = tmp_path_factory.mktemp("delivered") / "model.onnx"
    path.write_bytes(chain(32))
    return path


def test_generous_limits_are_met(model: Path, quick: MeasureConfig) -> None:
    predicted = Predicted(0.5, 0.4, 0.6, "ms")
    limits = {"latency_ms": 1e4, "memory_mb": 1e4, "size_mb": 10.0}
    certificate = certify(model, limits, quick, processes=2, predicted=predicted)
    assert certificate.met and not certificate.refused and "kept" in certificate.text
    data = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    assert data["schema"] == "certificate/1" and data["met"] is True and data["processes"] == 2
    assert data["model_sha256"] == file_hash(model) and data["runtime"].startswith("onnxruntime ")
    latency = data["limits"][0]
    assert latency["measured"]["kind"] == "measured" and latency["predicted"]["kind"] == "predicted"
    assert latency["measured"]["count"] >= 2 * 2 * 8 * 5  # processes x copies x rounds x runs
    assert [entry["measured"]["kind"] for entry in data["limits"]] == ["measured", "measured", "counted"]
    assert data["latency"]["p50"]["value"] <= data["latency"]["p95"]["value"]


def test_impossible_limit_is_missed(model: Path, quick: MeasureConfig) -> None:
    certificate = certify(model, {"latency_ms": 1e-6, "size_mb": 10.0}, quick, processes=1)
    assert not certificate.met and not certificate.refused
    assert [check.met for check in certificate.limits] == [False, True] and "missed" in certificate.text


def test_counted_limits_join_and_can_break_it(model: Path, quick: MeasureConfig) -> None:
    met = certify(model, {}, quick, processes=1)
    assert met.met and met.text == "no limit was set"
    assert met.with_counted("macs", 2e6, Counted(1e6, "macs")).met
    broken = met.with_counted("macs", 2e6, Counted(1e6, "macs")).with_counted("params", 10, Counted(11, "params"))
    assert not broken.met and "missed: params 11" in broken.text


def measured(value: float, spread: float) -> Measured:
    return Measured(value, value * (1 - spread), value * (1 + spread), "ms", 100)


@pytest.mark.parametrize(
    ("bound", "resolution", "met", "refused", "part"),
    [
        (2.0, 1.0, True, False, "kept"),
        (1.015, 1.0, True, False, "kept"),
        (1.015, 2.0, False, True, "finer than the 2.0 %"),  # the margin of 1.5 % is below what A/A resolves
        (1.005, 0.1, False, False, "reaches above"),
        (0.9, 0.1, False, False, "missed by 11.1 %"),
        (0.9, 50.0, False, False, "missed by"),
    ],
)
def test_rule_of_a_latency_limit(bound: float, resolution: float, met: bool, refused: bool, part: str) -> None:
    check = judge_latency(bound, measured(1.0, 0.01), resolution)
    assert (check.met, check.refused) == (met, refused) and part in check.text


def test_memory_of_a_network_grows_with_its_weights(chain: Callable[..., bytes], quick: MeasureConfig) -> None:
    small, large = peak_memory(chain(8), quick), peak_memory(chain(512), quick)
    assert large.unit == "mb" and large.low <= large.value <= large.high and large.count == 2
    assert large.value - small.value > 3 * 512 * 512 * 9 * 4 / 1e6  # the weights alone


def test_what_cannot_be_certified_says_so(model: Path, tmp_path: Path, quick: MeasureConfig) -> None:
    with pytest.raises(CheckpointError, match="no file"):
        certify(tmp_path / "none.onnx", {}, quick)
    with pytest.raises(DeviceMissing, match="energy"):
        certify(model, {"energy_mj": 3.0}, quick)
    with pytest.raises(JobError, match="latency_ms"):
        certify(model, {"latency": 3.0}, quick)
    with pytest.raises(JobError, match="with_counted"):
        certify(model, {"macs": 3.0}, quick)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(DeviceMissing, match="ONNX"):
        certify(broken, {}, quick)
