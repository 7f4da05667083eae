"""Can a device be reached, and what is on it: for `mtnas doctor`. Nothing is measured or left there."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import Any

from mtnas.base.errors import UserError
from mtnas.base.machine import CPU_FLAGS, cpu_info, package_versions
from mtnas.measure.devices import DeviceDescription
from mtnas.measure.reach.hook_settings import read_hook
from mtnas.measure.reach.ssh_connection import Connection
from mtnas.measure.reach.ssh_errors import ConnectionLost
from mtnas.measure.reach.ssh_settings import SshSettings


def check_device(device: DeviceDescription) -> dict[str, Any]:
    """Try to reach a device.

    Returns:
        `reachable`, `text` (one sentence, with the cure where there is one) and `details`: python, modules (version,
        None when missing, or "broken: ..."), cores, cpu, features, machine, system, free_mb, as far as known.
    """
    try:
        if device.reach == "hook":
            return _hook(device)
        found = {"local": _local, "ssh": _ssh}.get(device.reach, _unknown)(device)
    except (UserError, ConnectionLost) as error:
        return {"reachable": False, "text": str(error), "details": {}}
    return {"reachable": not found["lacking"], "text": _sentence(device, found), "details": found}


def _local(device: DeviceDescription) -> dict[str, Any]:
    cpu, versions = cpu_info(), package_versions()
    return {
        "python": versions["python"],
        "modules": {name: versions.get(name) for name in ("numpy", "onnx", _package(device))},
        "cores": cpu["cores"],
        "cpu": cpu["model"],
        "features": cpu["features"],
        "machine": cpu["machine"],
        "lacking": [] if _package(device) in versions else [_package(device)],
    }


def _ssh(device: DeviceDescription) -> dict[str, Any]:
    with closing(Connection(SshSettings.of(device.ssh, f"{device.name}: ssh"))) as connection:
        answer = connection.ask({"verb": "check", "modules": ["numpy", "onnx", _package(device)]})
    cpu, modules = answer.pop("cpu"), answer["modules"]
    needed = [name for name in ("numpy", _package(device)) if str(modules[name] or "broken").startswith("broken")]
    lacking = needed + ([] if answer.pop("locks") else ["a system with file locks"])
    known = {key: value for key, value in answer.items() if key != "event"}
    features = [flag for flag in CPU_FLAGS if flag in set(cpu["flags"])]
    return {**known, "cpu": cpu["model"], "features": features, "lacking": lacking}


def _hook(device: DeviceDescription) -> dict[str, Any]:
    """Whether the command is there; only measuring shows whether anything answers behind it."""
    word = read_hook(device.hook, f"device {device.name!r}").command[0]
    if shutil.which(word) is None:
        return {"reachable": False, "text": f"the command {word!r} is not found: correct hook.command", "details": {}}
    text = f"the command {word!r} is there; what is behind it answers when it measures"
    return {"reachable": True, "text": text, "details": {}}


def _unknown(device: DeviceDescription) -> dict[str, Any]:
    return {"modules": {}, "lacking": [f"a check for reach {device.reach!r}"]}


def _package(device: DeviceDescription) -> str:
    return device.runtime.partition("-")[0]


def _sentence(device: DeviceDescription, found: dict[str, Any]) -> str:
    if found["lacking"]:
        names = " ".join(found["lacking"])
        return f"reached, but {', '.join(found['lacking'])} is missing there: python3 -m pip install {names}"
    modules = ", ".join(f"{name} {version}" for name, version in found["modules"].items() if version)
    return f"Python {found['python']}, {modules}; {found['cpu']}, {found['cores']} cores"
