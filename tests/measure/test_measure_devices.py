"""Device descriptions: the shipped ones, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtnas.base.errors import JobError, UserError
from mtnas.base.resources import resource_folder
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import device_folder, is_measured, matching_device, read_device
from mtnas.measure.reach.open import open_reach

SHIPPED = sorted(path.parent.name for path in resource_folder("hardware_profiles").glob("*/device.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_devices_are_valid_and_named_like_their_folder(name: str) -> None:
    device = read_device(name)
    assert device.name == name and device.title
    assert matching_device(MeasureConfig(device=name, runtime=device.runtime, threads=device.threads)) == device


def test_the_default_config_is_a_shipped_device() -> None:
    assert matching_device(MeasureConfig()).name == "local-ort"


def test_written_and_read_again_is_the_same(tmp_path: Path) -> None:
    device = read_device("local-ort")
    (tmp_path / "device.yaml").write_text(device.to_yaml())
    assert read_device(str(tmp_path)) == device


def test_unknown_device_names_the_nearest() -> None:
    with pytest.raises(JobError, match="did you mean 'local-ort'"):
        read_device("local-orт")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: x\nthread: 2\n", "did you mean 'threads'"),
        ("name: x\nthreads: many\n", "of type int"),
        ("name: x\nthreads: true\n", "of type int"),
        ("name: x\nthreads: 0\n", "at least 1"),
        ("name: x\nruntime: tensorflow\n", "runtime"),
        ("name: x\nlimits: [latency]\n", "latency_ms"),
        ("name: x\nreach: sshh\n", "did you mean 'ssh'"),
        ("name: x\nreach: hook\nhook: {command: [true], repeat: 3}\n", "did you mean 'repeats'"),
        ("name: x\nreach: hook\nhook: {command: 'measure {modle}'}\n", "did you mean 'model'"),
        ("name: x\nreach: hook\nhook: {command: [a], repeats: 2}\n", "at least 3 repeats"),
        ("name: x\nreach: hook\nhook: {command: [a], timeout_s: -1}\n", "above zero"),
        ("name: x\nreach: hook\nhook: {command: [a, 1]}\n", "list of words"),
        ("name: x\nreach: hook\nhook: {command: 'a \"b'}\n", "quotes close"),
        ("threads: 1\n", "'name'"),
        ("- 1\n", "mapping"),
        ("name: [\n", "valid YAML"),
    ],
)
def test_wrong_descriptions_say_where(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "device.yaml").write_text(text)
    with pytest.raises(JobError, match=part.replace("[", r"\[")) as caught:
        read_device(str(tmp_path))
    assert "device.yaml" in str(caught.value)


def test_a_job_that_contradicts_its_device_is_refused() -> None:
    with pytest.raises(JobError, match=r"device\.threads"):
        matching_device(MeasureConfig(threads=2))
    with pytest.raises(JobError, match=r"device\.runtime"):
        matching_device(MeasureConfig(device="local-openvino"))


@pytest.mark.parametrize(
    ("name", "part"),
    [("jetson-orin", "ssh: {host:"), ("raspberry-pi-5", "ssh: {host:"), ("snapdragon", "hook: {command:")],
)
def test_descriptions_to_start_from_hold_no_numbers_and_say_what_to_fill_in(name: str, part: str) -> None:
    device = read_device(name)
    assert not is_measured(device_folder(name)) and "Not measured" in device.notes and "not measured" in device.title
    assert sorted(path.name for path in device_folder(name).iterdir()) == ["device.yaml"]
    with pytest.raises(UserError) as caught, open_reach(MeasureConfig(device=name), "test"):
        pass
    assert part in caught.value.cure
