"""What machine this is: enough to know whether two measurements may be compared."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "torch-pruning",
    "pymoo",
    "optuna",
    "scikit-learn",
)
#: instruction sets that decide how int8 and bf16 run
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that change numbers."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_info() -> dict[str, Any]:
    """CPU model, usable cores and the instruction sets that decide how int8 and bf16 run."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in {"flags", "Features"}:
                flags = set(value.split())
                break
    return {
        "model": model,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "features": [f for f in CPU_FLAGS if f in flags],
    }


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def governor() -> str | None:
    """Frequency governor of the first core, where the system shows it."""
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def memory_total_mb() -> float | None:
    """Physical memory in MB (1e6 bytes), where the system shows it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    except (ValueError, OSError, AttributeError):
        return None


def fingerprint() -> dict[str, Any]:
    """Everything above, as one record that travels with results; holds no host name and no path."""
    return {
        "cpu": cpu_info(),
        "memory_mb": memory_total_mb(),
        "governor": governor(),
        "system": platform.system(),
        "versions": package_versions(),
    }
