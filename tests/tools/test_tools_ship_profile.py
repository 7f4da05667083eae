"""Shipped profiles load, say where they come from, and are what was measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "measure"))

from measure_subject import cut, features, pool, quick_config  # noqa: E402

from mtnas.base.files import write_json, write_text  # noqa: E402
from mtnas.base.machine import fingerprint  # noqa: E402
from mtnas.base.resources import resource_folder  # noqa: E402
from mtnas.job.read import read_job, resolved_yaml  # noqa: E402
from mtnas.measure.devices import read_device  # noqa: E402
from mtnas.measure.profile import build_profile, load_profile  # noqa: E402
from tools import ship_profile  # noqa: E402

SHIPPED = sorted(path.parent for path in resource_folder("hardware_profiles").glob("*/predictor.json"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_every_shipped_profile_loads_and_says_where_it_comes_from(folder: Path) -> None:
    profile = load_profile(folder)
    assert profile.device == read_device(folder.name) and profile.environment.device == folder.name
    assert all(prediction.value > 0 for prediction in profile.predict(np.asarray([profile.points[0].features_F])))
    origin = json.loads((folder / "provenance.json").read_text())
    assert origin["schema"] == "provenance/1" and origin["networks"] == len(profile.points)
    assert origin["created"] == profile.created and origin["machine"]["cpu"]["model"] == profile.environment.cpu
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.2e6


def test_no_shipped_device_has_half_a_profile() -> None:
    for device in resource_folder("hardware_profiles").glob("*/device.yaml"):
        files = ("measurements.jsonl", "predictor.json", "provenance.json")
        assert len({(device.parent / name).exists() for name in files}) == 1, device.parent.name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has measured the profile of a small network, really."""
    folder = tmp_path_factory.mktemp("run")
    write_text(folder / "job.resolved.yaml", resolved_yaml(read_job(None)))
    write_json(folder / "machine.json", {"schema": "machine/1", "mtnas": "0", **fingerprint()})
    write_json(folder / "1-space" / "space.json", {"largest": {"macs": 2}, "smallest": {"macs": 1}})
    write_json(folder / "1-space" / "graph" / "plan.json", {})
    build_profile(cut, features, pool(), quick_config(12), folder / "3-profile" / "device")
    return folder


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    write_text(tmp_path / "local-ort" / "device.yaml", "# by hand\n" + read_device("local-ort").to_yaml())
    return tmp_path


def test_a_shipped_profile_is_the_measured_one(run: Path, devices: Path) -> None:
    target = ship_profile.ship(run, "local-ort", devices)
    shipped, measured = load_profile(target), load_profile(run / "3-profile" / "device")
    assert shipped.points == measured.points and shipped.to_json() == measured.to_json()
    assert (target / "device.yaml").read_text().startswith("# by hand")
    origin = json.loads((target / "provenance.json").read_text())
    assert origin["runs"] == "every run" and origin["input"] == [1, 3, 64, 64] and origin["networks"] == 12
    assert str(run) not in (target / "provenance.json").read_text()


def test_a_large_one_keeps_the_medians_of_rounds(run: Path, devices: Path) -> None:
    whole = (ship_profile.ship(run, "local-ort", devices) / "measurements.jsonl").stat().st_size
    target = ship_profile.ship(run, "local-ort", devices, most_kb=(whole - 1) / 1000)
    assert (target / "measurements.jsonl").stat().st_size < whole
    assert json.loads((target / "provenance.json").read_text())["runs"] == "the median of each round"
    small, measured = load_profile(target), load_profile(run / "3-profile" / "device")
    assert small.predictor.to_json() == measured.predictor.to_json()
    for ours, theirs in zip(small.points, measured.points, strict=True):
        assert {len(runs) for runs in ours.record.runs_ms_RN} == {1}
        assert np.median(ours.record.runs_ms_RN) == pytest.approx(theirs.record.p50.value, abs=2e-6)
        assert ours.record.p95 == theirs.record.p95
        assert len(ours.record.runs.medians_R) == len(theirs.record.anchor_ms_R)


def test_refusals(run: Path, devices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(read_device("local-ort"), name="board")
    write_text(devices / "board" / "device.yaml", other.to_yaml())
    asked = {"board": "described otherwise", "nowhere": "a device in hardware_profiles"}
    for device, part in asked.items():
        assert ship_profile.main([str(run), device, "--into", str(devices)]) == 2
        assert part in capsys.readouterr().err
    assert ship_profile.main([str(run), "local-ort", "--into", str(devices), "--most-kb", "0.1"]) == 2
    assert "device.samples" in capsys.readouterr().err
    assert not (devices / "local-ort" / "predictor.json").exists()
    assert ship_profile.main([str(run / "1-space"), "local-ort", "--into", str(devices)]) == 2
