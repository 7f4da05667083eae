"""Energy counters, where a machine has one: RAPL for x86 packages, NVML for NVIDIA GPUs, INA sensors on boards.

A counter is begun and ended; `end` gives the millijoules in between, of everything that hangs on the same supply. A
machine without one has None and a list of what was looked for, never zero. `root` is the folder that stands for `/`.

Sources: Linux powercap documentation (`energy_uj` wraps at `max_energy_range_uj`), hwmon sysfs interface (`in*_input`
in mV, `curr*_input` in mA, `power*_input` in uW), NVML API reference. Python 3.8, standard library only.
"""

from __future__ import annotations

import glob
import os
import threading
import time
from typing import Any, Callable, Sequence

from .files import text_of
from .nvml import Nvml, open_nvml

_INA = ("ina3221", "ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina260")
_WHOLE_MODULE = "VDD_IN"  # the Jetson rail that feeds all others
_POWERCAP = "sys/class/powercap"
_HWMON = "sys/class/hwmon"


class Rapl:
    """Counters of CPU packages and of memory where it is counted apart; each wraps on its own."""

    kind = "rapl"

    def __init__(self, zones: Sequence[str]) -> None:
        self._zones = list(zones)
        self.rails = [(text_of(os.path.join(z, "name")) or os.path.basename(z)) for z in self._zones]
        self._started: list[int] = []

    def begin(self) -> None:
        self._started = [_integer(os.path.join(zone, "energy_uj")) for zone in self._zones]

    def end(self) -> float:
        """At most one turn of a counter may lie between: a quarter of an hour on a large server."""
        total_uj = 0
        for zone, started in zip(self._zones, self._started):
            moved = _integer(os.path.join(zone, "energy_uj")) - started
            total_uj += moved if moved >= 0 else moved + _integer(os.path.join(zone, "max_energy_range_uj"))
        return total_uj / 1e3


class NvmlEnergy:
    """The GPU's own counter: board energy since the driver was loaded."""

    kind = "nvml"

    def __init__(self, gpu: Nvml) -> None:
        self._gpu, self._started = gpu, 0.0
        self.rails = [gpu.name() or "GPU"]

    def begin(self) -> None:
        self._started = self._now()

    def end(self) -> float:
        return self._now() - self._started

    def _now(self) -> float:
        found = self._gpu.energy_mj()
        if found is None:
            raise OSError("the GPU stopped answering with its energy")
        return found


class Ina:
    """Voltage times current of a board's rails, summed over time by a sampling thread (trapezoids).

    Args:
        rails: (label, read), `read()` gives watts.
        period_s: time between samples.
    """

    kind = "ina"

    def __init__(self, rails: Sequence[tuple[str, Callable[[], float]]], period_s: float = 0.02) -> None:
        self.rails = [label for label, _ in rails]
        self._reads = [read for _, read in rails]
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._samples: list[tuple[float, float]] = []

    def power_w(self) -> float:
        return sum(read() for read in self._reads)

    def begin(self) -> None:
        self._samples = [(time.perf_counter(), self.power_w())]
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> float:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._samples.append((time.perf_counter(), self.power_w()))
        return integral_mj(self._samples)

    def _sample(self) -> None:
        while not self._stop.wait(self._period_s):
            self._samples.append((time.perf_counter(), self.power_w()))


def integral_mj(samples: Sequence[tuple[float, float]]) -> float:
    """Millijoules under (seconds, watts) samples, by trapezoids."""
    pairs = zip(samples, samples[1:])
    return 1e3 * sum((t1 - t0) * (w0 + w1) / 2.0 for (t0, w0), (t1, w1) in pairs)


def on_gpu(runtime: str) -> bool:
    """Whether a runtime computes on an NVIDIA GPU."""
    return "tensorrt" in runtime or "cuda" in runtime


def find_counter(runtime: str, root: str = "/", gpu: Callable[[], Any] = open_nvml) -> tuple[Any, list[str]]:
    """A counter that sees this runtime's work, and what was looked for, one sentence each.

    A CPU network never gets the GPU's counter nor the other way round; a board's own sensors see both.
    """
    looked: list[str] = []
    for search in (_nvml, _ina) if on_gpu(runtime) else (_rapl, _ina):
        counter = search(root, gpu, looked)
        if counter is not None:
            return counter, looked
    return None, looked


def _rapl(root: str, gpu: Callable[[], Any], looked: list[str]) -> Rapl | None:
    zones = []
    for zone in sorted(glob.glob(os.path.join(glob.escape(root), _POWERCAP, "intel-rapl:*"))):
        inner, name = os.path.basename(zone).count(":") == 2, text_of(os.path.join(zone, "name")) or ""
        if name != "psys" and (not inner or name == "dram"):  # cores are inside packages, psys counts packages again
            zones.append(zone)
    if not zones:
        looked.append("RAPL: no package under {}".format("/" + _POWERCAP))
        return None
    closed = [zone for zone in zones if not os.access(os.path.join(zone, "energy_uj"), os.R_OK)]
    if closed:
        looked.append(f"RAPL: {os.path.basename(closed[0])}/energy_uj may be read by root only")
        return None
    return Rapl(zones)


def _nvml(root: str, gpu: Callable[[], Any], looked: list[str]) -> NvmlEnergy | None:
    found = gpu()
    if found is None:
        looked.append("NVML: no NVIDIA driver")
        return None
    if found.energy_mj() is None:
        looked.append("NVML: {} has no energy counter".format(found.name() or "this GPU"))
        return None
    return NvmlEnergy(found)


def _ina(root: str, gpu: Callable[[], Any], looked: list[str]) -> Ina | None:
    rails = []
    for chip in sorted(glob.glob(os.path.join(glob.escape(root), _HWMON, "hwmon*"))):
        if (text_of(os.path.join(chip, "name")) or "") in _INA:
            rails += _rails(chip)
    if not rails:
        looked.append("INA sensors: no voltage and current under {}".format("/" + _HWMON))
        return None
    whole = [rail for rail in rails if rail[0] == _WHOLE_MODULE]
    return Ina(whole or rails)


def _rails(chip: str) -> list[tuple[str, Callable[[], float]]]:
    """The rails of one chip that have both voltage and current, or power."""
    found: list[tuple[str, Callable[[], float]]] = []
    for number in range(1, 9):
        volts, amperes, power = (os.path.join(chip, f"{kind}{number}_input") for kind in ("in", "curr", "power"))
        label = text_of(os.path.join(chip, f"in{number}_label")) or f"{os.path.basename(chip)}-{number}"
        if label.upper() == "NC" or "sum" in label.lower():
            continue
        if os.path.exists(volts) and os.path.exists(amperes):
            found.append((label, _product(volts, amperes)))
        elif os.path.exists(power):
            found.append((label, _scaled(power)))
    return found


def _product(volts: str, amperes: str) -> Callable[[], float]:
    return lambda: _integer(volts) * _integer(amperes) / 1e6


def _scaled(power: str) -> Callable[[], float]:
    return lambda: _integer(power) / 1e6


def _integer(path: str) -> int:
    with open(path, encoding="ascii") as stream:
        return int(stream.read())
