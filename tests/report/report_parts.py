"""Fabricated width steps and costs of parts, as the stages write them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any


def measured(value: float, statistic: str = "p50", unit: str = "ms") -> dict[str, Any]:
    kinds = {"unit": unit, "count": 360, "statistic": statistic, "device": "local-ort", "kind": "measured"}
    return {"value": value, "low": value * 0.99, "high": value * 1.01, **kinds}


def counted(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "kind": "counted"}


def stairs_record() -> dict[str, Any]:
    """Float in steps of 16, int8 evenly."""
    widths = list(range(8, 97, 4))
    curves = []
    for precision, step in (("float32", 16), ("int8", 4)):
        for kind, scale in (("conv3x3", 1e-4), ("conv1x1", 3e-5)):
            ms = [measured(0.01 + scale * (-(-width // step) * step) ** 2) for width in widths]
            stairs = {
                "step": step,
                "error_percent": {"4": 20.0, "8": 18.0, "16": 3.0 if step == 16 else 22.0, "32": 19.0},
                "rise_percent": 60.0 if step == 16 else None,
                "slope_percent": 0.3,
                "between_percent": 12.0,
                "edges": [width for width in widths if width % 16 == 0] if step == 16 else [],
                "doubt": "",
            }
            curves.append({"kind": kind, "precision": precision, "widths": widths, "ms": ms, "stairs": stairs})
    return {"schema": "stairs/1", "steps": {"float32": 16, "int8": 4}, "curves": curves, "seconds": 8.4}


def parts_record(tasks: Sequence[str], whole_ms: float, alone: bool = True) -> dict[str, Any]:
    """A shared part of half the time, equal decoders, and a sum that is 1 % off."""
    share = 0.49 * whole_ms / len(tasks)
    parts = [_part("shared", "shared", tasks, 0.5 * whole_ms)]
    parts += [_part(task, "decoder", [task], share) for task in tasks]
    parts.append(_part("call", "call", [], 0.0))
    subsets = []
    for size in range(len(tasks), 0, -1):
        for chosen in combinations(tasks, size):
            total = 0.5 * whole_ms + size * share
            latency = measured(whole_ms if size == len(tasks) else total * 1.02)
            error = 100.0 * (total / latency["value"] - 1)
            subsets.append({"tasks": list(chosen), "latency_ms": latency, "sum_ms": total, "error_percent": error})
    return {
        "schema": "parts/1",
        "tasks": list(tasks),
        "parts": parts,
        "subsets": subsets,
        "error_percent": 1.96,
        "shared_alone_ms": measured(0.52 * whole_ms) if alone else None,
        "memory_mb": measured(14.0, "peak", "mb"),
        "memory_sum_mb": 15.1,
        "memory_error_percent": 7.9,
    }


def _part(name: str, kind: str, tasks: Sequence[str], ms: float) -> dict[str, Any]:
    amount = 0.0 if kind == "call" else 1e7
    return {
        "name": name,
        "kind": kind,
        "tasks": list(tasks),
        "latency_ms": measured(ms, "share"),
        "macs": counted(amount, "MACs"),
        "weight_bytes": counted(amount / 10, "bytes"),
        "moved_bytes": counted(amount / 20, "bytes"),
        "memory_mb": None if kind == "call" else measured(3.0, "share", "mb"),
    }
