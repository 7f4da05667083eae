"""Whether a device can tell every cost that a budget limits, asked before anything is trained or measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.device.counters import find_counter
from mtnas.device.nvml import open_nvml
from mtnas.measure.devices import DeviceDescription

ENERGY = "energy_mj"


def check_limits(
    names: Iterable[str], device: DeviceDescription, *, root: str = "/", gpu: Callable[[], Any] = open_nvml
) -> None:
    """Raise `DeviceMissing` for a limit that nobody can measure on this device.

    A device says in `limits` what it can tell. Energy on this machine is looked for instead: a counter that is found
    will do, and one that is not found is refused even where `limits` lists it.

    Args:
        names: of the limits.
        device: where they are to be kept.
        root: the folder that stands for `/`.
        gpu: opens the GPU's management library.
    """
    for name in names:
        if name == ENERGY and device.reach == "local":
            _check_counter(device, root, gpu)
        elif name not in device.limits:
            raise DeviceMissing(
                f"a device that can measure {name}",
                received=f"{device.name} declares {', '.join(device.limits)}",
                where=f"budget.{name}",
                cure=f"remove this limit, or add {name} to the limits of a device that has such a counter",
            )


def counts_energy(device: DeviceDescription, *, root: str = "/", gpu: Callable[[], Any] = open_nvml) -> bool:
    """Whether energy can be measured on this device, as far as is known here."""
    if device.reach != "local":
        return ENERGY in device.limits
    return find_counter(device.runtime, root, gpu)[0] is not None


def _check_counter(device: DeviceDescription, root: str, gpu: Callable[[], Any]) -> None:
    counter, looked = find_counter(device.runtime, root, gpu)
    if counter is None:
        raise DeviceMissing(
            f"an energy counter on this machine that sees the runtime {device.runtime}",
            received="none found; " + "; ".join(looked),
            where=f"budget.{ENERGY} on device {device.name}",
            cure="remove this limit, give read rights on the counter, or choose a device that has one",
        )
