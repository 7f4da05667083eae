"""NVIDIA's management library through ctypes: energy counter, clocks, temperature, throttle reasons. No rights needed.

Source of names, argument orders and bits: NVML API reference. Python 3.8, standard library only.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable

#: bits of nvmlDeviceGetCurrentClocksThrottleReasons; the first two and the last say nothing against a number
REASONS = {
    0x1: "idle",
    0x2: "clocks set by an application",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "clocks set for the display",
}
SLOWING = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
_SM_CLOCK = 1
_GPU_SENSOR = 0


class Nvml:
    """One GPU. A call that this GPU or driver does not offer gives None.

    Args:
        library: what `ctypes.CDLL("libnvidia-ml.so.1")` gives, or a stand-in.
        index: which GPU.
    """

    def __init__(self, library: Any, index: int = 0) -> None:
        self._library = library
        if library.nvmlInit_v2() != 0:
            raise OSError("NVML does not start: is there a GPU, and its driver?")
        self._handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(self._handle)) != 0:
            raise OSError(f"no GPU number {index}")

    def name(self) -> str:
        text = ctypes.create_string_buffer(96)
        status = self._library.nvmlDeviceGetName(self._handle, text, ctypes.c_uint(96))
        return text.value.decode("utf-8", "replace") if status == 0 else ""

    def energy_mj(self) -> float | None:
        """Millijoules since the driver was loaded."""
        return self._read("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def power_w(self) -> float | None:
        power_mw = self._read("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return None if power_mw is None else power_mw / 1e3

    def clock_mhz(self) -> float | None:
        """Of the streaming multiprocessors, now."""
        return self._read("nvmlDeviceGetClockInfo", ctypes.c_uint, _SM_CLOCK)

    def max_clock_mhz(self) -> float | None:
        return self._read("nvmlDeviceGetMaxClockInfo", ctypes.c_uint, _SM_CLOCK)

    def temperature_c(self) -> float | None:
        return self._read("nvmlDeviceGetTemperature", ctypes.c_uint, _GPU_SENSOR)

    def throttle_bits(self) -> int | None:
        found = self._read("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong)
        return None if found is None else int(found)

    def state(self) -> dict[str, Any]:
        """What decides a number measured on this GPU, now."""
        bits = self.throttle_bits()
        return {
            "name": self.name(),
            "mhz": self.clock_mhz(),
            "max_mhz": self.max_clock_mhz(),
            "temperature_c": self.temperature_c(),
            "power_w": self.power_w(),
            "throttle": None if bits is None else reasons(bits),
            "slowed": None if bits is None else reasons(bits & SLOWING),
        }

    def close(self) -> None:
        self._library.nvmlShutdown()

    def _read(self, function: str, kind: Callable[[], Any], *arguments: int) -> float | None:
        value = kind()
        call = getattr(self._library, function, None)
        if call is None or call(self._handle, *(ctypes.c_int(a) for a in arguments), ctypes.byref(value)) != 0:
            return None
        return float(value.value)


def reasons(bits: int) -> list[str]:
    """The names of throttle bits."""
    return [name for bit, name in sorted(REASONS.items()) if bits & bit]


def open_nvml(index: int = 0) -> Nvml | None:
    """The GPU, or None where there is none."""
    try:
        return Nvml(ctypes.CDLL("libnvidia-ml.so.1"), index)
    except (OSError, AttributeError):
        return None
