"""What this machine is, as far as it decides a latency; the same words as `mtnas.base.machine`."""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from typing import Any, Iterator, Sequence

import numpy as np

from .files import text_of

_FLAGS = (
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


def environment(runtime: str, version: str = "") -> dict[str, Any]:
    """What decides a number: runtime, versions, CPU, cores this process may use."""
    model, features = _cpu()
    return {
        "runtime": runtime,
        "runtime_version": version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "cpu": model,
        "features": features,
        "governor": text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[list[int]]:
    """Keep this process, and the threads it starts, on these cores; gives those in force, none when free to move."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield []
        return
    before = os.sched_getaffinity(0)
    missing = sorted(set(cores) - set(range(os.cpu_count() or 1)))
    if missing:
        raise ValueError("expected cores of this machine, received " + str(missing))
    os.sched_setaffinity(0, set(cores))
    try:
        yield sorted(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


def _cpu() -> tuple[str, list[str]]:
    model, flags = platform.processor() or platform.machine(), set()  # type: ignore[var-annotated]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    model = value.strip()
                elif key.strip() in {"flags", "Features"}:
                    flags = set(value.split())
                    break
    except OSError:
        pass
    return model, [flag for flag in _FLAGS if flag in flags]
