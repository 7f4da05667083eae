"""Which limits a device can keep: as it declares, and energy on this machine where a counter is really found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtnas.base.errors import DeviceMissing
from mtnas.measure.devices import DeviceDescription, read_device
from mtnas.measure.limits import check_limits, counts_energy

LOCAL = read_device("local-ort")
REMOTE = replace(LOCAL, name="board", reach="ssh")


class Gpu:
    def name(self) -> str:
        return "Toy GPU"

    def energy_mj(self) -> float:
        return 1.0


def no_gpu() -> None:
    return None


def with_rapl(root: Path) -> str:
    zone = root / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in {"name": "package-0", "energy_uj": "5", "max_energy_range_uj": "1000"}.items():
        (zone / name).write_text(text)
    return str(root)


def test_energy_is_a_limit_where_a_counter_is_found(tmp_path: Path) -> None:
    root = with_rapl(tmp_path)
    check_limits(["latency_ms", "energy_mj"], LOCAL, root=root, gpu=no_gpu)
    assert counts_energy(LOCAL, root=root, gpu=no_gpu)


def test_without_a_counter_the_places_looked_at_are_named(tmp_path: Path) -> None:
    declared = replace(LOCAL, limits=(*LOCAL.limits, "energy_mj"))
    for device in (LOCAL, declared):
        with pytest.raises(DeviceMissing, match=r"(?s)budget\.energy_mj.*RAPL: no package.*INA sensors"):
            check_limits(["energy_mj"], device, root=str(tmp_path), gpu=no_gpu)
    assert not counts_energy(declared, root=str(tmp_path), gpu=no_gpu)


def test_a_cpu_network_is_never_counted_by_the_gpu(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissing):
        check_limits(["energy_mj"], LOCAL, root=str(tmp_path), gpu=Gpu)
    on_gpu = read_device("cuda-torch")
    check_limits(["energy_mj"], on_gpu, root=str(tmp_path), gpu=Gpu)
    with pytest.raises(DeviceMissing, match="NVML: no NVIDIA driver"):
        check_limits(["energy_mj"], on_gpu, root=with_rapl(tmp_path), gpu=no_gpu)


def test_a_remote_device_is_believed_and_this_machine_is_not_asked(tmp_path: Path) -> None:
    root = with_rapl(tmp_path)
    with pytest.raises(DeviceMissing, match="board declares latency_ms"):
        check_limits(["energy_mj"], REMOTE, root=root, gpu=no_gpu)
    check_limits(["energy_mj"], replace(REMOTE, limits=("energy_mj",)), root=str(tmp_path / "none"), gpu=no_gpu)


def test_other_limits_are_as_declared() -> None:
    narrow = DeviceDescription(name="narrow", limits=("latency_ms",))
    check_limits(["latency_ms"], narrow)
    with pytest.raises(DeviceMissing, match=r"a device that can measure memory_mb"):
        check_limits(["memory_mb"], narrow)
