"""What this machine has, and what is missing."""

from __future__ import annotations

import os
from typing import Any

from mtnas import __version__
from mtnas.base.machine import fingerprint
from mtnas.base.optional import available
from mtnas.base.resources import resource_folder

_OPTIONAL = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "nni": "nni",
    "torchjd": "balance",
    "ray": "ray",
}
_REQUIRED = ("torch", "torch_pruning", "onnx", "onnxruntime", "onnxscript", "pymoo", "optuna", "sklearn", "safetensors")


def examine() -> dict[str, Any]:
    """Versions, CPU features, packages, devices, data; takes seconds and changes nothing."""
    machine = fingerprint()
    features = set(machine["cpu"]["features"])
    return {
        "schema": "doctor/1",
        "mtnas": __version__,
        "machine": machine,
        "required": {name: available(name) for name in _REQUIRED},
        "optional": {name: {"installed": available(name), "extra": extra} for name, extra in _OPTIONAL.items()},
        "int8": int8_note(features),
        "bf16": bool(features & {"avx512_bf16", "amx_bf16", "bf16"}),
        "cuda": _cuda(),
        "data": os.environ.get("MTNAS_DATA", ""),
        "search_spaces": sorted(path.stem for path in resource_folder("search_spaces").glob("*.yaml")),
        "devices": sorted(path.parent.name for path in resource_folder("hardware_profiles").glob("*/device.yaml")),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def int8_note(features: set[str]) -> str:
    """How int8 will run on this CPU, in one sentence."""
    if features & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return "integer dot products (VNNI): unsigned activations, 8-bit weights"
    if features & {"asimddp", "i8mm"}:
        return "integer dot products (ARM): signed activations"
    return "no integer dot products: int8 may be slower than float, and weights are kept to 7 bits"


def _cuda() -> str:
    """The CUDA device's name, or why there is none."""
    if not available("torch"):
        return "torch is not installed"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def examine_text(result: dict[str, Any]) -> str:
    """The same for people: one line per fact, a cure for everything that is missing."""
    machine = result["machine"]
    missing = [name for name, found in result["required"].items() if not found]
    lines = [
        f"mtnas {result['mtnas']}, python {machine['versions']['python']}",
        f"cpu     {machine['cpu']['model']}, {machine['cpu']['cores']} cores, {' '.join(machine['cpu']['features'])}",
        f"int8    {result['int8']}",
        f"bf16    {'in hardware' if result['bf16'] else 'emulated: training will use float32'}",
        f"cuda    {result['cuda']}",
        f"clocks  governor {machine['governor'] or 'not shown by this system'}, load {result['load']}",
        f"data    {result['data'] or 'MTNAS_DATA is not set: real data sets need it, or data.root in the job'}",
        f"spaces  {', '.join(result['search_spaces'])}",
        f"devices {', '.join(result['devices'])}",
    ]
    versions = machine["versions"]
    lines += [f"  {name} {version}" for name, version in versions.items() if name != "python"]
    lines += [f"  {name}: MISSING, reinstall mtnas" for name in missing]
    for name, row in result["optional"].items():
        if not row["installed"]:
            lines.append(f'  {name}: not installed; pip install "mtnas[{row["extra"]}]"')
    return "\n".join(lines)
