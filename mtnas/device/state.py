"""What the machine says of itself: governor, clocks, temperatures, throttling, quota, load, power mode, swap, GPU.

Read before and after a measurement; nothing here changes anything. Every file may be missing: what a system does not
show is None or empty, never a guess. `root` is the folder that stands for `/`. Python 3.8, standard library only.

Sources: Linux kernel documentation (cpufreq, thermal sysfs, cgroup v1 and v2, proc), Raspberry Pi `get_throttled`
bits, Jetson's `/var/lib/nvpmodel/status` and `/etc/nvpmodel.conf`.
"""

from __future__ import annotations

import glob
import os
import re
from typing import Any, Mapping

from .files import text_of
from .machine import usable_cores
from .nvml import open_nvml

#: bits 0 to 3 of the Raspberry Pi's get_throttled: what is so now (bits 16 to 19: since boot)
_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SLOWING_COOLERS = ("cpufreq", "devfreq", "processor")


def read_state(root: str = "/", gpu: bool = True) -> dict[str, Any]:
    """Everything that can be read in milliseconds, as JSON."""
    return {
        "governor": _governor(root),
        "mhz": _mhz(root, "scaling_cur_freq"),
        "max_mhz": _mhz(root, "scaling_max_freq"),
        "temperature_c": _temperatures(root),
        "throttle_count": _throttle_count(root),
        "throttled": _throttled(root),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "cpu_quota": cpu_quota(root),
        "quota_stops": _quota_stops(root),
        "load": _load(root),
        "power_mode": power_mode(root),
        "swap_used_mb": _swap_used_mb(root),
        "gpu": _gpu() if gpu else None,
    }


def doubts(state: Mapping[str, Any], threads: int) -> tuple[str, ...]:
    """Why a number measured between `state["before"]` and `state["after"]` deserves no trust; empty when it does."""
    before, after = state.get("before"), state.get("after")
    if not before or not after:
        return ()
    found = ["throttled: " + name for name in dict.fromkeys([*before["throttled"], *after["throttled"]])]
    found += _grown(before, after, "throttle_count", "throttled {:g} times by temperature meanwhile")
    found += _grown(before, after, "quota_stops", "stopped {:g} times by its CPU quota meanwhile")
    found += _grown(before, after, "swap_used_mb", "{:.0f} MB went to swap meanwhile", least=1.0)
    quota = after.get("cpu_quota")
    if quota is not None and quota < threads:
        found.append(f"a CPU quota of {quota:g} cores for {threads} threads")
    load, cores = before.get("load"), before.get("cores") or 1
    if load is not None and load - threads > cores / 2:
        found.append(f"load {load:g} on {cores} cores: other work runs here")
    for key in ("governor", "power_mode"):
        if before.get(key) != after.get(key):
            found.append("{} changed from {} to {}".format(key.replace("_", " "), before.get(key), after.get(key)))
    slowed = [name for gpu in (before.get("gpu"), after.get("gpu")) for name in (gpu or {}).get("slowed") or ()]
    return tuple(found + ["GPU slowed by " + name for name in dict.fromkeys(slowed)])


def cpu_quota(root: str = "/") -> float | None:
    """Cores' worth of time that control groups grant this process; None without a quota."""
    quotas = []
    for folder in _cgroups(root):
        text = text_of(os.path.join(folder, "cpu.max"))
        if text is not None:
            share, _, period = text.partition(" ")
        else:
            share = text_of(os.path.join(folder, "cpu.cfs_quota_us")) or "max"
            period = text_of(os.path.join(folder, "cpu.cfs_period_us")) or "100000"
        if share not in ("max", "-1"):
            quotas.append(float(share) / float(period or 100000))
    return min(quotas) if quotas else None


def power_mode(root: str = "/") -> str | None:
    """A Jetson's nvpmodel mode, else the platform profile of the firmware, else None."""
    status = text_of(_under(root, "var/lib/nvpmodel/status"))
    number = re.search(r"pmode:(\d+)", status or "")
    if number:
        mode = int(number.group(1))
        config = text_of(_under(root, "etc/nvpmodel.conf")) or ""
        name = re.search(rf"<\s*POWER_MODEL\s+ID=0*{mode}\s+NAME=(\S+)\s*>", config)
        return f"{mode} ({name.group(1)})" if name else str(mode)
    return text_of(_under(root, "sys/firmware/acpi/platform_profile"))


def _governor(root: str) -> str | None:
    """One word when all cores agree."""
    names = {text_of(path) for path in _each(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(name for name in names if name)) or None


def _mhz(root: str, name: str) -> list[float]:
    """Of every core, in MHz."""
    found = [_number(path) for path in _each(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/" + name)]
    return [khz / 1e3 for khz in found if khz is not None]


def _temperatures(root: str) -> dict[str, float]:
    """Degrees Celsius by thermal zone."""
    found = {}
    for folder in _each(root, "sys/class/thermal/thermal_zone[0-9]*"):
        milli = _number(os.path.join(folder, "temp"))
        if milli is not None:
            found[text_of(os.path.join(folder, "type")) or os.path.basename(folder)] = milli / 1e3
    return found


def _throttle_count(root: str) -> float | None:
    """How often x86 cores and packages were throttled since boot."""
    paths = _each(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    found = [count for count in map(_number, paths) if count is not None]
    return sum(found) if found else None


def _throttled(root: str) -> list[str]:
    """What slows this machine down right now."""
    found = []
    for folder in _each(root, "sys/class/thermal/cooling_device[0-9]*"):
        kind = text_of(os.path.join(folder, "type")) or ""
        slows = any(word in kind.lower() for word in _SLOWING_COOLERS)
        if slows and (_number(os.path.join(folder, "cur_state")) or 0) > 0:
            found.append(f"cooling by {kind}")
    for path in _each(root, "sys/devices/platform/soc*/*firmware/get_throttled"):
        bits = int(text_of(path) or "0", 16)
        found += [name for bit, name in sorted(_PI_BITS.items()) if bits >> bit & 1]
    return found


def _quota_stops(root: str) -> float | None:
    """How often the control group's quota stopped this process, with all in the same group."""
    for folder in _cgroups(root):
        stops = re.search(r"^nr_throttled (\d+)", text_of(os.path.join(folder, "cpu.stat")) or "", re.MULTILINE)
        if stops:
            return float(stops.group(1))
    return None


def _cgroups(root: str) -> list[str]:
    """Folders of this process's control group and of those around it, innermost first."""
    folders = []
    for line in (text_of(_under(root, "proc/self/cgroup")) or "0::/").splitlines():
        _, controllers, place = [*line.split(":", 2), "", "", ""][:3]
        if controllers == "":
            top = _under(root, "sys/fs/cgroup")
        elif "cpu" in controllers.split(","):
            top = _under(root, "sys/fs/cgroup/cpu")
        else:
            continue
        parts = [part for part in place.split("/") if part and part != ".."]
        folders += [os.path.join(top, *parts[:count]) for count in range(len(parts), -1, -1)]
    return folders


def _load(root: str) -> float | None:
    """Processes that ran or waited to run, mean of the last minute."""
    text = text_of(_under(root, "proc/loadavg"))
    return float(text.split()[0]) if text else None


def _swap_used_mb(root: str) -> float | None:
    text = text_of(_under(root, "proc/meminfo")) or ""
    found = dict(re.findall(r"^(SwapTotal|SwapFree):\s+(\d+)", text, re.MULTILINE))
    return (int(found["SwapTotal"]) - int(found["SwapFree"])) * 1024 / 1e6 if len(found) == 2 else None


def _gpu() -> dict[str, Any] | None:
    nvml = open_nvml()
    if nvml is None:
        return None
    try:
        return nvml.state()
    finally:
        nvml.close()


def _grown(
    before: Mapping[str, Any], after: Mapping[str, Any], key: str, sentence: str, least: float = 0.0
) -> list[str]:
    first, last = before.get(key), after.get(key)
    return [sentence.format(last - first)] if first is not None and last is not None and last - first > least else []


def _under(root: str, path: str) -> str:
    return os.path.join(root, path)


def _each(root: str, pattern: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(root), pattern)))


def _number(path: str) -> float | None:
    try:
        return float(text_of(path) or "")
    except ValueError:
        return None
