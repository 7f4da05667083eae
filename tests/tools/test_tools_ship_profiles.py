"""Profiles of several devices, measured on one network and shipped by one command that resumes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mtnas.base.errors import JobError  # noqa: E402
from mtnas.base.resources import resource_folder  # noqa: E402
from mtnas.measure.config import MeasureConfig  # noqa: E402
from mtnas.measure.profile import load_profile  # noqa: E402
from tools import ship_profiles  # noqa: E402

TASKS = ("tasks=[segmentation, depth]", "floors={}", "data.height=32", "data.width=32")
TINY = (*TASKS, "model.encoder=mobilenet", "model.width=16", "model.blocks=[1,1,1]", "model.head_width=16")
FEW = (
    "device.samples=12",
    "device.round_ms=0.5",
    "device.round_runs=5",
    "device.warmup_ms=5",
    "device.max_rounds=6",
    "device.retries=0",
)


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Descriptions without profiles."""
    folder = tmp_path_factory.mktemp("devices")
    for name in ("local-ort", "local-ort-int8"):
        (folder / name).mkdir()
        shutil.copy(resource_folder("hardware_profiles") / name / "device.yaml", folder / name)
    return folder


def shipped(devices: Path, *names: str) -> int:
    settings = [word for text in (*TINY, *FEW) for word in ("-s", text)]
    work = devices / "work"
    return ship_profiles.main([*names, "--quick", "--work", str(work), "--into", str(devices), *settings])


def test_devices_without_a_profile_are_measured_each_in_its_precision(
    devices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship_profiles.of_this_machine(devices) == ["local-ort", "local-ort-int8"]
    assert shipped(devices) == 0
    assert ship_profiles.of_this_machine(devices) == []
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["local-ort", "local-ort-int8"]
    found = {name: load_profile(devices / name) for name in ("local-ort", "local-ort-int8")}
    assert [profile.device.precision for profile in found.values()] == ["float32", "int8"]
    for name, profile in found.items():
        origin = json.loads((devices / name / "provenance.json").read_text())
        assert origin["networks"] == len(profile.points) and origin["settings"]["device"] == name
    graphs = {json.loads((devices / name / "provenance.json").read_text())["graph_sha256"] for name in found}
    assert len(graphs) == 1
    with pytest.raises(JobError, match="a profile of float32 networks"):
        load_profile(devices / "local-ort-int8", MeasureConfig())


def test_the_same_command_again_measures_nothing(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (devices / "local-ort" / "measurements.jsonl").read_bytes()
    monkeypatch.setattr(ship_profiles, "STAGES", dict.fromkeys(ship_profiles.STAGES, None))
    assert shipped(devices, "local-ort") == 0
    assert (devices / "local-ort" / "measurements.jsonl").read_bytes() == before


def test_a_device_that_fails_does_not_stop_the_others(devices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shipped(devices, "local-otr", "local-ort") == 2
    said = capsys.readouterr()
    assert "did you mean 'local-ort'" in said.err and said.out.startswith("local-ort:")
