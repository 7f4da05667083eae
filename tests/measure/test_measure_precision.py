"""Precision belongs to a device: what is cut for it, and which profiles may steer a job."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from measure_subject import cut, features, pool, quick_config, selection

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.base.resources import resource_folder
from mtnas.job.schema import Job
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import DeviceDescription, matching_device, measured_precision, read_device
from mtnas.measure.profile import Profile, build_profile, load_profile
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS
from mtnas.quantize.timing import precise_cut
from mtnas.stages.preflight import preflight


def described(folder: Path, **changes: object) -> str:
    """A folder with a device of its own; returns its path."""
    device = replace(read_device("local-ort"), **changes)  # type: ignore[arg-type]
    (folder / "device.yaml").write_text(device.to_yaml())
    return str(folder)


def quantizers(model: bytes) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(model).graph.node)


def test_a_device_says_its_precision_and_a_config_may_say_another(tmp_path: Path) -> None:
    name = described(tmp_path, precision="int8")
    assert measured_precision(MeasureConfig(device=name)) == "int8"
    assert measured_precision(MeasureConfig(device=name, precision="float32")) == "float32"
    assert matching_device(MeasureConfig(precision="int8")).precision == "int8"
    assert measured_precision(MeasureConfig()) == "float32"


@pytest.mark.parametrize(("written", "read"), [("as in the file", "float32"), ("float16", "float16"), ("int8", "int8")])
def test_precisions_in_a_description(tmp_path: Path, written: str, read: str) -> None:
    (tmp_path / "device.yaml").write_text(f"name: x\nprecision: {written}\n")
    assert read_device(str(tmp_path)).precision == read


def test_an_unknown_precision_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "device.yaml").write_text("name: x\nprecision: int-8\n")
    with pytest.raises(JobError, match="did you mean 'int8'"):
        read_device(str(tmp_path))
    with pytest.raises(JobError, match=r"device\.precision"):
        MeasureConfig(precision="float16")


def test_a_cut_is_a_file_in_the_devices_precision() -> None:
    def model_of(chosen: Selection) -> onnx.ModelProto:
        return onnx.load_model_from_string(cut(chosen))

    narrow, config = selection(8, 8, 16, 16), QuantizeConfig(float_upsampling=False)
    assert precise_cut(model_of, "float32", config)(narrow) == model_of(narrow).SerializeToString()
    assert quantizers(precise_cut(model_of, "int8", config)(narrow)) == 1 + 4


def test_a_profile_of_another_precision_is_refused(profile: Profile, profile_folder: Path) -> None:
    assert profile.device.precision == "float32"
    with pytest.raises(JobError, match=r"(?s)a profile of int8 networks.*of float32 networks.*precision to float32"):
        load_profile(profile_folder, quick_config(precision="int8"))
    with pytest.raises(JobError, match="of float32 networks"):
        build_profile(cut, features, pool(), quick_config(precision="int8"), profile_folder)
    assert load_profile(profile_folder, quick_config(precision="float32")).points == profile.points


def test_an_int8_profile_says_so_before_it_is_finished(tmp_path: Path, chain: Callable[..., bytes]) -> None:
    def fail(_: Selection) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_profile(fail, features, pool(), quick_config(precision="int8"), tmp_path)
    with pytest.raises(JobError, match="one of int8 networks"):
        build_profile(cut, features, pool(), quick_config(), tmp_path)


def test_onnxruntime_and_openvino_are_described_in_both_precisions_on_one_and_two_threads() -> None:
    devices = [
        read_device(path.parent.name) for path in resource_folder("hardware_profiles").glob("local-*/device.yaml")
    ]
    found = {(d.runtime, d.precision, d.threads) for d in devices}
    assert found >= set(itertools.product(("onnxruntime", "openvino"), ("float32", "int8"), (1, 2)))
    for device in devices:
        if device.precision == "int8":
            assert DIALECTS[device.dialect].runtime == device.runtime
            preflight(Job(device=config_of(device), quantize=QuantizeConfig(dialect=device.dialect)), ("space",))


def config_of(device: DeviceDescription) -> MeasureConfig:
    return MeasureConfig(device=device.name, runtime=device.runtime, threads=device.threads)


@pytest.mark.parametrize(
    ("quantize", "where"),
    [
        (QuantizeConfig(enabled=False), "quantize.enabled: false"),
        (QuantizeConfig(dialect="tensorrt"), r"quantize\.dialect"),
    ],
)
def test_an_int8_device_wants_an_int8_network_in_its_dialect(quantize: QuantizeConfig, where: str) -> None:
    job = Job(device=MeasureConfig(precision="int8"), quantize=quantize)
    with pytest.raises(JobError, match=where):
        preflight(job, ("space",))
    preflight(Job(device=MeasureConfig(precision="int8")), ("space",))
