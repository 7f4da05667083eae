"""Declared devices: where they are, whether they have been measured, whether they can be reached now."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mtnas.base.errors import DeviceMissing, UserError
from mtnas.base.resources import resource_folder

_SETTINGS: dict[str, Any] = {
    "rounds": 12,
    "max_rounds": 24,
    "round_ms": 8.0,
    "warmup_cap_ms": 300.0,
    "lock_wait_s": 2.0,
}


def devices(more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a device: those shipped, and more by name or folder; all are asked at once."""
    shipped = sorted(path.parent.name for path in resource_folder("hardware_profiles").glob("*/device.yaml"))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(_row, [*shipped, *(name for name in more if name not in shipped)]))


def _row(name: str) -> dict[str, Any]:
    from mtnas.measure.devices import device_folder, is_measured, read_device
    from mtnas.measure.reach.check import check_device

    row: dict[str, Any] = {"name": name, "reach": "", "runtime": "", "threads": 0, "measured": False}
    try:
        device = read_device(name)
        row |= {"reach": device.reach, "runtime": device.runtime, "threads": device.threads}
        row["measured"] = is_measured(device_folder(name))
        found = check_device(device)
    except UserError as error:
        found = {"reachable": False, "text": str(error), "details": {}}
    return {**row, "reachable": found["reachable"], "text": found["text"]}


def noise() -> dict[str, Any]:
    """A/A: the finest difference that this machine can tell apart now, from one small network against itself."""
    from mtnas.measure.anchor import anchor_model
    from mtnas.measure.config import MeasureConfig
    from mtnas.measure.protocol import self_test

    try:
        found = self_test(anchor_model(), MeasureConfig(**_SETTINGS))
    except DeviceMissing as error:
        return {"resolution_percent": None, "text": str(error).splitlines()[1].strip()}
    return {
        "resolution_percent": found.resolution_percent,
        "text": f"differences below {found.resolution_percent:.1f} % cannot be told apart now (A/A)",
    }
