"""Energy counters on fabricated trees: wrap-around, idle subtraction, integration in closed form; absent elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mtnas.device.counters import Ina, NvmlEnergy, Rapl, find_counter, integral_mj, on_gpu
from mtnas.device.energy import energy_repeats, measure_energy
from mtnas.device.job import JOBS
from mtnas.device.store import Store
from mtnas.measure.anchor import anchor_model

ZONES = "sys/class/powercap"


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


def zone(name: str, kind: str, energy_uj: int, most_uj: int = 1_000_000) -> dict[str, object]:
    place = f"{ZONES}/{name}"
    return {f"{place}/name": kind, f"{place}/energy_uj": energy_uj, f"{place}/max_energy_range_uj": most_uj}


def no_gpu() -> None:
    return None


class Gpu:
    """A GPU whose counter moves by 40 mJ whenever it is read."""

    def __init__(self, counts: bool = True) -> None:
        self.counts, self.mj = counts, 0.0

    def name(self) -> str:
        return "Toy GPU"

    def energy_mj(self) -> float | None:
        self.mj += 40.0
        return self.mj if self.counts else None


def test_packages_and_memory_add_up_and_each_wraps_on_its_own(tmp_path: Path) -> None:
    write(tmp_path, zone("intel-rapl:0", "package-0", 999_000))
    write(tmp_path, zone("intel-rapl:0:0", "core", 5))
    write(tmp_path, zone("intel-rapl:0:1", "dram", 10_000))
    write(tmp_path, zone("intel-rapl:1", "package-1", 0))
    write(tmp_path, zone("intel-rapl:2", "psys", 0))
    counter, looked = find_counter("onnxruntime", str(tmp_path), no_gpu)
    assert isinstance(counter, Rapl) and counter.rails == ["package-0", "dram", "package-1"] and looked == []
    counter.begin()
    write(tmp_path, zone("intel-rapl:0", "package-0", 4_000))  # went over the top: 1_000 + 4_000
    write(tmp_path, zone("intel-rapl:0:0", "core", 900_000))
    write(tmp_path, zone("intel-rapl:0:1", "dram", 17_000))
    write(tmp_path, zone("intel-rapl:1", "package-1", 500_000))
    write(tmp_path, zone("intel-rapl:2", "psys", 999_999))
    assert counter.end() == pytest.approx((5_000 + 7_000 + 500_000) / 1e3)


def test_a_counter_that_only_root_may_read_is_absent_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, zone("intel-rapl:0", "package-0", 1))
    monkeypatch.setattr("mtnas.device.counters.os.access", lambda *_: False)
    counter, looked = find_counter("openvino", str(tmp_path), no_gpu)
    assert counter is None and "intel-rapl:0/energy_uj may be read by root only" in looked[0]


def test_a_machine_without_a_counter_says_what_was_looked_for(tmp_path: Path) -> None:
    counter, looked = find_counter("onnxruntime", str(tmp_path), no_gpu)
    assert counter is None and [line.split(":")[0] for line in looked] == ["RAPL", "INA sensors"]
    counter, looked = find_counter("tensorrt", str(tmp_path), lambda: Gpu(counts=False))
    assert counter is None and looked[0] == "NVML: Toy GPU has no energy counter"


def test_a_cpu_network_never_gets_the_gpus_counter(tmp_path: Path) -> None:
    assert find_counter("onnxruntime", str(tmp_path), Gpu)[0] is None
    write(tmp_path, zone("intel-rapl:0", "package-0", 1))
    counter, _ = find_counter("tensorrt", str(tmp_path), Gpu)
    assert isinstance(counter, NvmlEnergy) and counter.rails == ["Toy GPU"]
    counter.begin()
    assert counter.end() == 40.0
    assert on_gpu("torch_cuda") and not on_gpu("torch")


def jetson(root: Path, chip: str = "sys/class/hwmon/hwmon3") -> None:
    rails = {1: ("VDD_IN", 5000, 2000), 2: ("VDD_CPU_GPU_CV", 5000, 800), 3: ("NC", 0, 0)}
    write(root, {f"{chip}/name": "ina3221", f"{chip}/in7_label": "Sum of shunt voltages"})
    for number, (label, millivolts, milliamperes) in rails.items():
        write(root, {f"{chip}/in{number}_label": label, f"{chip}/in{number}_input": millivolts})
        write(root, {f"{chip}/curr{number}_input": milliamperes})


def test_the_rail_that_feeds_a_jetson_stands_for_all(tmp_path: Path) -> None:
    jetson(tmp_path)
    counter, _ = find_counter("tensorrt", str(tmp_path), no_gpu)
    assert isinstance(counter, Ina) and counter.rails == ["VDD_IN"] and counter.power_w() == pytest.approx(10.0)


def test_without_that_rail_all_rails_add_up_power_files_too(tmp_path: Path) -> None:
    jetson(tmp_path)
    write(tmp_path, {"sys/class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC"})
    write(tmp_path, {"sys/class/hwmon/hwmon4/name": "ina226", "sys/class/hwmon/hwmon4/power1_input": 1_500_000})
    write(tmp_path, {"sys/class/hwmon/hwmon5/name": "nvme", "sys/class/hwmon/hwmon5/power1_input": 9_000_000})
    counter, _ = find_counter("onnxruntime", str(tmp_path), no_gpu)
    assert counter.rails == ["VDD_GPU_SOC", "VDD_CPU_GPU_CV", "hwmon4-1"]
    assert counter.power_w() == pytest.approx(10.0 + 4.0 + 1.5)


def test_samples_are_integrated_by_trapezoids() -> None:
    assert integral_mj([(0.0, 2.0), (1.0, 4.0), (3.0, 4.0)]) == pytest.approx(1e3 * (3.0 + 8.0))
    assert integral_mj([(0.0, 5.0)]) == 0.0


def test_a_sampling_thread_sees_constant_power() -> None:
    counter = Ina([("rail", lambda: 3.0)], period_s=0.002)
    for _ in range(2):  # a counter may be begun again
        counter.begin()
        time.sleep(0.05)
        spent = counter.end()
        seconds = counter._samples[-1][0] - counter._samples[0][0]
        assert spent == pytest.approx(3e3 * seconds, rel=1e-6) and len(counter._samples) >= 2


class Clock:
    """A world in which idling takes 4 W and running 10 W, a run takes 0.5 s, and time passes only when told."""

    def __init__(self) -> None:
        self.seconds, self.mj, self.started = 0.0, 0.0, 0.0

    def pass_time(self, seconds: float, watts: float) -> None:
        self.seconds += seconds
        self.mj += 1e3 * watts * seconds

    def begin(self) -> None:
        self.started = self.mj

    def end(self) -> float:
        return self.mj - self.started


def test_idle_power_is_subtracted_exactly() -> None:
    world = Clock()
    rows = energy_repeats(
        lambda: world.pass_time(0.5, 10.0), world, 3, 2.0, 1.0, lambda: world.seconds, lambda s: world.pass_time(s, 4.0)
    )
    assert len(rows) == 3
    for row in rows:
        assert row["runs"] == 4 and row["seconds"] == pytest.approx(2.0) and row["idle_w"] == pytest.approx(4.0)
        assert row["gross_mj"] == pytest.approx(5000.0) and row["net_mj"] == pytest.approx(0.5 * 6.0 * 1e3)


def test_the_job_gives_absence_a_record_of_its_own(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    job: dict[str, Any] = {"models": {"net": "x"}, "runtime": "onnxruntime", "root": str(tmp_path)}

    def never(path: str) -> Callable[[], Any]:
        raise AssertionError("opened")

    measure_energy({**job, "repeats": 1, "loop_s": 0.01, "idle_s": 0.01}, said.append, never)
    assert said[0]["event"] == "energy-absent" and len(said[0]["looked_for"]) == 2


def test_the_job_measures_every_model_on_the_counter_there_is(tmp_path: Path) -> None:
    jetson(tmp_path)
    said: list[dict[str, Any]] = []
    job = {"models": {"a": "x", "b": "y"}, "runtime": "onnxruntime", "root": str(tmp_path), "repeats": 2}
    measure_energy({**job, "loop_s": 0.3, "idle_s": 0.2}, said.append, lambda path: lambda: None)
    assert [record["name"] for record in said] == ["a", "b"]
    for record in said:
        assert record["counter"] == "ina" and record["rails"] == ["VDD_IN"] and len(record["repeats"]) == 2
        for row in record["repeats"]:
            assert row["gross_mj"] * row["runs"] == pytest.approx(1e4 * row["seconds"], rel=0.3)
            assert row["idle_w"] == pytest.approx(10.0, rel=0.3)


def test_the_runners_job_opens_warms_and_counts_a_real_network(tmp_path: Path) -> None:
    jetson(tmp_path)
    (tmp_path / "net.onnx").write_bytes(anchor_model())
    said: list[Sequence[dict[str, Any]]] = []
    how = {"runtime": "onnxruntime", "threads": 1, "spinning": False, "seed": 0}
    warm = {"warmup_ms": 1.0, "warmup_cap_ms": 5.0, "round_ms": 1.0, "round_runs": 1, "max_round_runs": 5}
    loops = {"repeats": 2, "loop_s": 0.05, "idle_s": 0.02, "root": str(tmp_path)}
    JOBS["energy"]({**how, **warm, **loops, "models": {"net": str(tmp_path / "net.onnx")}}, Store(), said.append)
    ((record,),) = said
    assert record["event"] == "energy" and record["name"] == "net" and record["counter"] == "ina"
    assert all(row["runs"] >= 1 and row["gross_mj"] > 0 for row in record["repeats"])
