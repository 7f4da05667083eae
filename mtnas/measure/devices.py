"""Devices are data: `hardware_profiles/<device>/device.yaml` says where a network runs and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mtnas.base.budget import LIMIT_UNITS
from mtnas.base.errors import JobError
from mtnas.base.resources import resource_folder
from mtnas.base.tables import check_name, nearest
from mtnas.measure.config import MeasureConfig
from mtnas.measure.reach.hook_settings import read_hook
from mtnas.measure.reach.ssh_settings import SshSettings
from mtnas.measure.reach.table import REACHES
from mtnas.measure.runtimes.table import RUNTIMES

_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "title": (str,),
    "reach": (str,),
    "ssh": (dict,),
    "runtime": (str,),
    "threads": (int,),
    "precision": (str,),
    "dialect": (str,),
    "round_to": (int,),
    "limits": (list,),
    "notes": (str,),
    "hook": (dict,),
}
#: precision -> precision of the files that are measured
PRECISIONS = {"float32": "float32", "float16": "float32", "int8": "int8"}
_OLD_PRECISIONS = {"as in the file": "float32"}


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """One device, as its `device.yaml` declares it.

    Args:
        name: the folder's name.
        title: one line for people.
        reach: row of the reach table; `local` is this machine.
        ssh: with `reach: ssh`, how to get there; see `mtnas.measure.reach.ssh_settings`.
        runtime: row of the runtimes table.
        threads: threads inside an operator.
        precision: files that are measured and delivered: float32, int8, or float16 (float32 files, computed so).
        dialect: row of the quantization dialects.
        round_to: channels per step of the device's latency staircase in float32.
        limits: budget names that can be measured or counted here.
        notes: anything a reader of the numbers should know.
        hook: the user's own command, where `reach` is `hook`; see `mtnas.measure.reach.hook_settings`.
    """

    name: str
    title: str = ""
    reach: str = "local"
    ssh: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "onnxruntime"
    threads: int = 1
    precision: str = "float32"
    dialect: str = "onnxruntime-x64"
    round_to: int = 16
    limits: tuple[str, ...] = field(default=("latency_ms", "size_mb", "memory_mb", "macs", "params"))
    notes: str = ""
    hook: Mapping[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        data = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != {}}
        return yaml.safe_dump({**data, "limits": list(self.limits)}, sort_keys=False, width=110)


def device_folder(name_or_path: str) -> Path:
    """The folder of a device: a path as it is, a name among the shipped ones."""
    path = Path(name_or_path)
    if (path / "device.yaml").is_file():
        return path
    shipped = resource_folder("hardware_profiles")
    known = sorted(p.parent.name for p in shipped.glob("*/device.yaml"))
    if name_or_path not in known:
        raise JobError(
            "a device in hardware_profiles, or a folder with a device.yaml",
            received=repr(name_or_path),
            where="device.device",
            cure=nearest(name_or_path, known),
        )
    return shipped / name_or_path


def is_measured(folder: Path) -> bool:
    """Whether the folder of a device holds a profile, and not only a description."""
    return (folder / "predictor.json").is_file()


def read_device(name_or_path: str) -> DeviceDescription:
    """Read and check a device.yaml."""
    path = device_folder(name_or_path) / "device.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError("valid YAML", received=str(error), where=str(path), cure="mend the file") from error
    if not isinstance(raw, Mapping):
        raise JobError("a mapping of keys to values", received=type(raw).__name__, where=str(path))
    return _checked(raw, path)


def _checked(raw: Mapping[str, Any], path: Path) -> DeviceDescription:
    for key, value in raw.items():
        check_name(str(key), _TYPES, "key", where=str(path))
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            wanted = _TYPES[key][0].__name__
            raise JobError(f"a value of type {wanted}", received=repr(value), where=f"{path}: {key}")
    if "name" not in raw:
        raise JobError("the key 'name'", received=f"only {sorted(raw)}", where=str(path), cure="name: <folder name>")
    raw = {**raw, "precision": _OLD_PRECISIONS.get(raw.get("precision", ""), raw.get("precision", "float32"))}
    check_name(raw["precision"], PRECISIONS, "precision", where=f"{path}: precision")
    device = DeviceDescription(**{**raw, "limits": tuple(raw.get("limits", DeviceDescription(name="").limits))})
    if device.reach != "hook":  # there the command says what it is
        check_name(device.runtime, RUNTIMES, "runtime", where=f"{path}: runtime")
    elif device.hook.get("command"):
        read_hook(device.hook, str(path))
    for limit in device.limits:
        check_name(str(limit), LIMIT_UNITS, "limit", where=f"{path}: limits")
    check_name(device.reach, REACHES, "reach", where=f"{path}: reach")
    if device.reach == "ssh" and device.ssh:  # a description without an address is refused when it is used
        SshSettings.of(device.ssh, f"{path}: ssh")
    if device.threads < 1 or device.round_to < 1:
        raise JobError("threads and round_to of at least 1", where=str(path))
    return device


def matching_device(config: MeasureConfig) -> DeviceDescription:
    """The configured device; raise `JobError` when the job asks for another runtime or thread count.

    A precision in the config wins over the device's own: the same device may be profiled for float32 and for int8.
    """
    device = read_device(config.device)
    for key in ("runtime", "threads"):
        declared, asked = getattr(device, key), getattr(config, key)
        if declared != asked:
            raise JobError(
                f"{key} {declared!r}, as device {device.name!r} declares",
                received=repr(asked),
                where=f"device.{key}",
                cure=f"set device.{key} to {declared!r}, or choose or describe another device",
            )
    return device if config.precision == "auto" else replace(device, precision=config.precision)


def measured_precision(config: MeasureConfig) -> str:
    """Precision of the files that are measured: `float32` or `int8`."""
    return PRECISIONS[matching_device(config).precision]


def check_precision(folder: Path, config: MeasureConfig) -> None:
    """Raise `JobError` when the profile in this folder was measured in another precision than is asked for."""
    if not (folder / "device.yaml").is_file():
        return
    measured, asked = PRECISIONS[read_device(str(folder)).precision], measured_precision(config)
    if measured != asked:
        raise JobError(
            f"a profile of {asked} networks",
            received=f"one of {measured} networks",
            where=str(folder),
            cure=f"set device.precision to {measured}, or profile into a new folder",
        )
