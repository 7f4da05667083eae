"""Int8 along a run: what is cut, what a stage depends on, and what is predicted for an int8 file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny import FinishedRun

from mtnas.base.errors import JobError
from mtnas.base.files import read_json, write_json
from mtnas.base.groups import Selection
from mtnas.job.read import read_job
from mtnas.measure.protocol import measure
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.timing import timing_copy
from mtnas.stages.context import RunContext
from mtnas.stages.inputs import inputs_hash
from mtnas.stages.int8_profile import FOLDER, measure_int8, predicted_delivered
from mtnas.stages.network import Network
from mtnas.stages.preflight import preflight


def context(run: Path, *overrides: str) -> RunContext:
    return RunContext(read_job(run / "job.resolved.yaml", overrides), run)


@pytest.fixture(scope="module")
def run(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come as far as int8, with its int8 profile."""
    folder = finished.copy(tmp_path_factory.mktemp("int8") / "run", upto="quantize")
    here = context(folder, "device.int8_samples=8")
    measure_int8(here, here.job.quantize, here.run.stage("quantize"))
    return folder


def delivers(run: Path, **record: Any) -> None:
    """Say what the quantize stage has delivered."""
    path = run / "6-quantize" / "quantize.json"
    write_json(path, {**read_json(path), **record})


def quantizers(model: bytes) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(model).graph.node)


def test_cuts_are_in_the_precision_that_the_job_or_the_device_says(run: Path) -> None:
    everything = Selection.of({})
    assert quantizers(context(run).cut(everything)) == 0
    assert context(run).precision == "float32"
    assert quantizers(context(run, "device.precision=int8").cut(everything)) > 0
    branch = context(run, "device.precision=int8", "quantize.float_branches=[depth]")
    assert 0 < quantizers(branch.cut(everything)) < quantizers(context(run, "device.precision=int8").cut(everything))


def test_the_profile_of_an_int8_device_depends_on_what_stays_float(run: Path) -> None:
    kept = "quantize.float_branches=[depth]"
    assert inputs_hash(context(run), "profile") == inputs_hash(context(run, kept), "profile")
    int8 = "device.precision=int8"
    assert inputs_hash(context(run, int8), "profile") != inputs_hash(context(run, int8, kept), "profile")
    assert inputs_hash(context(run, int8), "profile") == inputs_hash(
        context(run, int8, "quantize.images=16"), "profile"
    )


def test_an_int8_file_has_a_prediction_from_int8_networks(run: Path) -> None:
    here = context(run)
    delivered = Network.load(run / "5-prune", "delivered").selection
    delivers(run, delivered="int8", float_heads=[], float_branches=[])
    predicted = predicted_delivered(here, delivered)
    copy = timing_copy(here.graph.cut(delivered), "onnxruntime-x64").SerializeToString()
    measured = measure({"copy": copy}, here.job.device)["copy"].p50.value
    assert predicted is not None and predicted.low < predicted.value < predicted.high
    assert measured / 3 < predicted.value < 3 * measured
    assert read_json(run / "6-quantize" / FOLDER / "predictor.json")["points"]


def test_a_prediction_is_of_the_delivered_precision_and_structure_or_absent(run: Path, tmp_path: Path) -> None:
    delivered = Network.load(run / "5-prune", "delivered").selection
    delivers(run, delivered="float")
    assert predicted_delivered(context(run), delivered) is not None
    assert predicted_delivered(context(run, "device.precision=int8"), delivered) is None
    delivers(run, delivered="int8", float_heads=["depth"], float_branches=[])
    assert predicted_delivered(context(run, "device.precision=int8"), delivered) is None
    bare = RunContext(context(run).job, tmp_path)
    write_json(tmp_path / "6-quantize" / "quantize.json", {"delivered": "int8"})
    assert predicted_delivered(bare, delivered) is None


def test_nothing_more_is_measured_where_int8_is_measured_already_or_not_wanted(run: Path, tmp_path: Path) -> None:
    for override in ("device.precision=int8", "device.int8_samples=0"):
        measure_int8(context(run, override), QuantizeConfig(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_few_int8_networks_are_refused_before_anything_is_measured(run: Path) -> None:
    job = context(run).job
    with pytest.raises(JobError, match=r"device\.int8_samples"):
        preflight(replace(job, device=replace(job.device, int8_samples=4)), ("quantize",))
    off = replace(job, quantize=replace(job.quantize, enabled=False))
    preflight(replace(off, device=replace(job.device, int8_samples=4)), ("quantize",))
