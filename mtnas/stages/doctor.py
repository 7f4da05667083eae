"""What this machine has, what its runtimes really run, which devices answer, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mtnas import __version__
from mtnas.base.machine import fingerprint
from mtnas.base.optional import available
from mtnas.base.resources import resource_folder
from mtnas.stages.doctor_devices import devices, noise
from mtnas.stages.doctor_runtimes import cuda, runtimes

_OPTIONAL = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "nni": "nni",
    "torchjd": "balance",
    "ray": "ray",
}
_REQUIRED = ("torch", "torch_pruning", "onnx", "onnxruntime", "onnxscript", "pymoo", "optuna", "sklearn", "safetensors")


def examine(more_devices: Sequence[str] = ()) -> dict[str, Any]:
    """Versions, CPU features, runtimes, clocks, noise, packages, devices, data; takes seconds and changes nothing."""
    from mtnas.device.counters import find_counter
    from mtnas.device.state import doubts, read_state

    machine, state = fingerprint(), read_state()
    features = set(machine["cpu"]["features"])
    counter, looked = find_counter("onnxruntime")
    rows = devices(more_devices)
    return {
        "schema": "doctor/1",
        "mtnas": __version__,
        "machine": machine,
        "required": {name: available(name) for name in _REQUIRED},
        "optional": {name: {"installed": available(name), "extra": extra} for name, extra in _OPTIONAL.items()},
        "int8": int8_note(features),
        "bf16": bool(features & {"avx512_bf16", "amx_bf16", "bf16"}),
        "cuda": cuda(),
        "runtimes": runtimes(),
        "state": state,
        "untrusted": list(doubts({"before": state, "after": state}, 1)),
        "noise": noise(),
        "energy": {"counter": counter.kind if counter else None, "looked_for": looked},
        "data": os.environ.get("MTNAS_DATA", ""),
        "search_spaces": sorted(path.stem for path in resource_folder("search_spaces").glob("*.yaml")),
        "devices": [row["name"] for row in rows],
        "reach": rows,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def int8_note(features: set[str]) -> str:
    """Which integer instructions this CPU has, in one sentence; what runtimes make of them is measured."""
    if features & {"avx512_vnni", "avx_vnni", "amx_int8"}:
        return "integer dot products (VNNI): unsigned activations, 8-bit weights"
    if features & {"asimddp", "i8mm"}:
        return "integer dot products (ARM): signed activations"
    return "no integer dot products: int8 may be slower than float, and weights are kept to 7 bits"


def examine_text(result: dict[str, Any]) -> str:
    """The same for people: one line per fact, a cure for everything that is missing."""
    machine = result["machine"]
    lines = [
        f"mtnas {result['mtnas']}, python {machine['versions']['python']}",
        f"cpu     {machine['cpu']['model']}, {machine['cpu']['cores']} cores, {' '.join(machine['cpu']['features'])}",
        f"int8    {result['int8']}",
        f"bf16    {'in hardware' if result['bf16'] else 'emulated: training will use float32'}",
        f"cuda    {result['cuda']}",
        f"clocks  {_clocks(result['state'])}",
        f"noise   {result['noise']['text']}",
        f"energy  {_energy(result['energy'])}",
        f"data    {result['data'] or 'MTNAS_DATA is not set: real data sets need it, or data.root in the job'}",
        f"spaces  {', '.join(result['search_spaces'])}",
    ]
    lines += [f"  untrusted: {reason}" for reason in result["untrusted"]]
    lines += ["runtimes", *(_runtime(row) for row in result["runtimes"])]
    lines += ["devices", *(_device(row) for row in result["reach"])]
    return "\n".join([*lines, "packages", *_packages(result)])


def _clocks(state: dict[str, Any]) -> str:
    parts = [f"governor {state['governor'] or 'not shown by this system'}"]
    if state["mhz"]:
        parts.append(f"{max(state['mhz']):.0f} of {max(state['max_mhz'] or state['mhz']):.0f} MHz")
    if state["power_mode"]:
        parts.append(f"power mode {state['power_mode']}")
    if state["temperature_c"]:
        parts.append(f"{max(state['temperature_c'].values()):.0f} °C")
    if state["cpu_quota"] is not None:
        parts.append(f"a quota of {state['cpu_quota']:g} cores")
    return ", ".join([*parts, f"load {state['load']}"])


def _energy(found: dict[str, Any]) -> str:
    return f"counter: {found['counter']}" if found["counter"] else "no counter; " + "; ".join(found["looked_for"])


def _runtime(row: dict[str, Any]) -> str:
    if not row["runs"]:
        return f"  {row['name']}: not here: {row['why_not']}"
    facts = [f"float32 files: {row['float32']}"] if row["float32"] else []
    facts += [f"int8: {row['int8']}"] if row["int8"] else []
    return f"  {row['name']} {row['version']}" + ("; " + "; ".join(facts) if facts else "")


def _device(row: dict[str, Any]) -> str:
    measured = "measured" if row["measured"] else "not measured"
    answer = "answers" if row["reachable"] else "does not answer"
    said = " ".join(row["text"].split())
    return f"  {row['name']} ({row['reach']}, {row['runtime']}, {row['threads']} threads; {measured}) {answer}: {said}"


def _packages(result: dict[str, Any]) -> list[str]:
    lines = [f"  {name} {version}" for name, version in result["machine"]["versions"].items() if name != "python"]
    lines += [f"  {name}: MISSING, reinstall mtnas" for name, found in result["required"].items() if not found]
    for name, row in result["optional"].items():
        if not row["installed"]:
            lines.append(f'  {name}: not installed; pip install "mtnas[{row["extra"]}]"')
    return lines
