"""`mtnas.costs` and `mtnas.width_steps` on real, small networks."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_zoo
import pytest

import mtnas
from mtnas.base.errors import CheckpointError, JobError
from mtnas.measure.config import MeasureConfig

QUICK = MeasureConfig(rounds=4, max_rounds=6, round_ms=1.0, round_runs=4, warmup_ms=5, warmup_cap_ms=50, processes=1)


def test_costs_of_a_file_and_of_a_model_are_of_the_same_parts(tmp_path: Path) -> None:
    model = onnx_zoo.exported("shared")
    onnx.save(model, tmp_path / "model.onnx")
    of_file, of_model = mtnas.costs(tmp_path / "model.onnx", config=QUICK), mtnas.costs(model, config=QUICK)
    assert [part.name for part in of_file.parts] == [part.name for part in of_model.parts]
    assert [part.macs for part in of_file.parts] == [part.macs for part in of_model.parts]
    assert of_file.memory_mb is not None
    tasks = [output.name for output in model.graph.output]
    assert of_file.latency(tasks).kind == "measured"


def test_no_file_and_no_device_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.onnx"):
        mtnas.costs(tmp_path / "none.onnx", config=QUICK)
    with pytest.raises(JobError, match="local-ort"):
        mtnas.width_steps(device="local-or")


def test_width_steps_of_one_kind() -> None:
    found = mtnas.width_steps(kinds=("conv1x1",), config=QUICK)
    assert [(curve.kind, curve.precision) for curve in found.curves] == [("conv1x1", "float32"), ("conv1x1", "int8")]
    assert set(found.steps) == {"float32", "int8"}
