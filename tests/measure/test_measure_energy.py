"""Energy on the host's side: absent with what was looked for, measured through a hook that counts, part of a budget."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from measure_subject import quick_config

from mtnas.base.errors import DeviceMissing, JobError
from mtnas.base.quantity import Measured
from mtnas.device.counters import find_counter
from mtnas.measure.anchor import anchor_model
from mtnas.measure.certify import certify
from mtnas.measure.config import MeasureConfig
from mtnas.measure.energy import energy, measured_energy

TOY = str(Path(__file__).with_name("hook_toy.py"))


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeasureConfig:
    """A device whose command counts: the network's kilobytes, doubled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hook = {
        "command": [sys.executable, "-I", "-S", TOY, "counts-all", str(tmp_path), "{model}", "{out}"],
        "repeats": 3,
        "runs": 2,
    }
    text = f"name: pretended\nreach: hook\nruntime: toy\nhook: {json.dumps(hook)}\n"
    (tmp_path / "device.yaml").write_text(text)
    return quick_config(device=str(tmp_path), runtime="toy", certify_rounds=3)


def rows(*net_mj: float) -> list[dict[str, float]]:
    return [{"runs": 10, "net_mj": value, "gross_mj": 9.0} for value in net_mj]


def test_the_median_of_the_loops_and_its_interval() -> None:
    found = measured_energy(rows(3.0, 1.0, 2.0, 5.0, 4.0), MeasureConfig())
    assert found == Measured(3.0, 1.0, 5.0, "mj", 50, "above idle", "local-ort")


def test_an_energy_that_drowns_in_the_idle_power_is_no_energy() -> None:
    with pytest.raises(DeviceMissing, match="stands out of the idle power"):
        measured_energy(rows(3.0, -0.5, 2.0, 5.0, 4.0), MeasureConfig())


def test_a_command_that_counts_gives_an_energy_and_a_certificate(counting: MeasureConfig, tmp_path: Path) -> None:
    model, size_kb = tmp_path / "net.onnx", len(anchor_model()) / 1e3
    model.write_bytes(anchor_model())
    assert energy(model, counting).value == pytest.approx(2 * size_kb)
    kept = certify(model, {"energy_mj": 3 * size_kb}, counting, processes=1)
    assert kept.met and kept.limits[0].statistic == "above idle" and "energy_mj" in kept.text
    assert not certify(model, {"energy_mj": size_kb}, counting, processes=1).met
    assert list(kept.latency) == ["p50", "p95", "p99"]
    assert kept.latency["p95"].value <= kept.latency["p99"].value <= kept.latency["p99"].high


def test_a_machine_without_a_counter_names_what_was_looked_for() -> None:
    """RAPL and INA sensors are looked for in earnest, in a process of its own."""
    config = quick_config(energy_loop_s=0.2)
    counter, _ = find_counter("onnxruntime")
    if counter is None:
        with pytest.raises(DeviceMissing, match=r"RAPL: .*INA sensors: "):
            energy(anchor_model(), config)
    with pytest.raises(JobError, match="energy_loop_s"):
        replace(config, energy_loop_s=0.0)
