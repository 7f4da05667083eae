"""What a machine says of itself, read from fabricated trees of sysfs and proc; what is not shown is None."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest

from mtnas.device.nvml import Nvml, reasons
from mtnas.device.state import cpu_quota, doubts, power_mode, read_state

CPU = "sys/devices/system/cpu"


def tree(root: Path, files: dict[str, object]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(root)


def board(root: Path, **changes: object) -> str:
    files: dict[str, object] = {
        f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
        f"{CPU}/cpu1/cpufreq/scaling_governor": "performance",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": 1800000,
        f"{CPU}/cpu1/cpufreq/scaling_cur_freq": 2400000,
        f"{CPU}/cpu0/cpufreq/scaling_max_freq": 2400000,
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": 3,
        f"{CPU}/cpu0/thermal_throttle/package_throttle_count": 4,
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": 54321,
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": 3,
        "sys/class/thermal/cooling_device1/type": "thermal-cpufreq-0",
        "sys/class/thermal/cooling_device1/cur_state": 0,
        "proc/loadavg": "0.25 0.10 0.05 1/123 4567",
        "proc/meminfo": "MemTotal: 100 kB\nSwapTotal:    2000 kB\nSwapFree:     1000 kB",
        "proc/self/cgroup": "0::/user/mine",
    }
    return tree(root, {**files, **changes})


def test_a_board_that_shows_everything(tmp_path: Path) -> None:
    state = read_state(board(tmp_path), gpu=False)
    assert state["governor"] == "performance" and state["mhz"] == [1800.0, 2400.0] and state["max_mhz"] == [2400.0]
    assert state["temperature_c"] == {"cpu-thermal": 54.321} and state["throttle_count"] == 7
    assert state["throttled"] == [] and state["load"] == 0.25
    assert state["swap_used_mb"] == pytest.approx(1000 * 1024 / 1e6)
    assert json.loads(json.dumps(state)) == state


def test_a_system_that_shows_nothing_is_none_and_empty_never_zero(tmp_path: Path) -> None:
    state = read_state(str(tmp_path), gpu=False)
    silent = ("governor", "throttle_count", "cpu_quota", "quota_stops", "load", "power_mode", "swap_used_mb", "gpu")
    assert [state[key] for key in silent] == [None] * len(silent)
    assert (state["mhz"], state["temperature_c"], state["throttled"]) == ([], {}, [])
    assert doubts({"before": state, "after": state}, 4) == () == doubts({}, 1)


def test_this_machine_can_be_read() -> None:
    state = read_state()
    assert state["cores"] >= state["usable_cores"] >= 1
    json.dumps(state, allow_nan=False)


def test_cores_that_disagree_name_both_governors(tmp_path: Path) -> None:
    root = board(tmp_path, **{f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave"})
    assert read_state(root, gpu=False)["governor"] == "performance, powersave"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/user/mine/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/user/mine/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/user/mine/cpu.max": "max 100000", "sys/fs/cgroup/user/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/a", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": -1}, None),
        (
            {
                "proc/self/cgroup": "7:memory:/m\n4:cpu,cpuacct:/a",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": 200000,
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": 50000,
                "sys/fs/cgroup/memory/m/cpu.cfs_quota_us": 1,
            },
            4.0,
        ),
    ],
)
def test_the_tightest_quota_of_all_groups_around_counts(
    tmp_path: Path, files: dict[str, object], quota: float | None
) -> None:
    assert cpu_quota(tree(tmp_path, {"proc/self/cgroup": "0::/user/mine", **files})) == quota


def test_power_mode_of_a_jetson_and_of_a_laptop(tmp_path: Path) -> None:
    jetson = tree(
        tmp_path / "jetson",
        {
            "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=30W >",
        },
    )
    assert power_mode(jetson) == "2 (30W)"
    assert power_mode(tree(tmp_path / "bare", {"var/lib/nvpmodel/status": "pmode:0001"})) == "1"
    assert power_mode(tree(tmp_path / "laptop", {"sys/firmware/acpi/platform_profile": "balanced"})) == "balanced"


def test_throttling_now_is_seen_on_x86_and_on_a_raspberry_pi(tmp_path: Path) -> None:
    root = board(
        tmp_path,
        **{
            "sys/class/thermal/cooling_device1/cur_state": 2,
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
        },
    )
    # 0x50005: under-voltage and throttled now; bits 16 and 18 only say that it has happened since boot
    assert read_state(root, gpu=False)["throttled"] == ["cooling by thermal-cpufreq-0", "under-voltage", "throttled"]


@pytest.mark.parametrize(
    ("before", "after", "threads", "part"),
    [
        ({}, {"throttle_count": 9}, 1, "throttled 2 times by temperature"),
        ({"throttled": ["under-voltage"]}, {}, 1, "throttled: under-voltage"),
        ({}, {"quota_stops": 5.0}, 1, "stopped 5 times by its CPU quota"),
        ({}, {"cpu_quota": 1.5}, 2, "a CPU quota of 1.5 cores for 2 threads"),
        ({"load": 9.0, "cores": 4}, {}, 2, "load 9 on 4 cores"),
        ({}, {"swap_used_mb": 300.0}, 1, "300 MB went to swap"),
        ({}, {"governor": "powersave"}, 1, "governor changed from performance to powersave"),
        ({}, {"power_mode": "0 (MAXN)"}, 1, "power mode changed from None to 0 (MAXN)"),
        ({}, {"gpu": {"slowed": ["software power cap"]}}, 1, "GPU slowed by software power cap"),
    ],
)
def test_every_reason_to_doubt_is_a_sentence(
    before: dict[str, Any], after: dict[str, Any], threads: int, part: str
) -> None:
    calm: dict[str, Any] = dict.fromkeys(("cpu_quota", "power_mode", "gpu"))
    calm |= {"governor": "performance", "throttle_count": 7, "throttled": [], "quota_stops": 0.0, "swap_used_mb": 0.0}
    calm |= {"load": 1.0, "cores": 4}
    assert doubts({"before": calm, "after": calm}, 1) == ()
    found = doubts({"before": {**calm, **before}, "after": {**calm, **after}}, threads)
    assert len(found) == 1 and part in found[0]


HOT_GPU = {
    "nvmlDeviceGetTotalEnergyConsumption": 123456,
    "nvmlDeviceGetPowerUsage": 71500,
    "nvmlDeviceGetClockInfo": 1200,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetTemperature": 84,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x24,
}


class FakeGpu:
    """NVML's calling convention, with numbers of a GPU that is too hot; `missing` calls answer 3 (not supported)."""

    def __init__(self, missing: tuple[str, ...] = ()) -> None:
        self.missing = missing

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == "nvmlDeviceGetName":
                arguments[1].value = b"Toy GPU"
            elif name in HOT_GPU:
                if name in self.missing:
                    return 3
                arguments[-1]._obj.value = HOT_GPU[name]
            return 0

        return call


def test_a_gpu_is_read_through_ctypes() -> None:
    state = Nvml(FakeGpu()).state()
    assert state["name"] == "Toy GPU" and state["mhz"] == 1200.0 and state["max_mhz"] == 1980.0
    assert state["temperature_c"] == 84.0 and state["power_w"] == 71.5
    assert state["slowed"] == ["software power cap", "software thermal slowdown"] == state["throttle"]
    assert Nvml(FakeGpu()).energy_mj() == 123456.0
    assert Nvml(FakeGpu(("nvmlDeviceGetTotalEnergyConsumption",))).energy_mj() is None


def test_idle_gpus_are_not_slowed() -> None:
    assert reasons(0x1) == ["idle"] and reasons(0) == []


def test_a_driver_that_does_not_start_is_an_error() -> None:
    class Broken:
        def nvmlInit_v2(self) -> int:
            return 9

    with pytest.raises(OSError, match="does not start"):
        Nvml(Broken())
    assert ctypes.sizeof(ctypes.c_ulonglong) == 8
