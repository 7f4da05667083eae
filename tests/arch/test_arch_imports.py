"""The level table holds: who may import whom, who may know torch, and what an import may cost."""

from __future__ import annotations

import graphlib
import json
import subprocess
import sys
from pathlib import Path

from arch_walk import (
    ROOT,
    all_imports,
    as_module,
    eager_imports,
    label,
    module_name,
    modules,
    references,
    room_of,
    rooms,
    sources,
)

LEVELS = {
    "base": 0,
    **dict.fromkeys(("space", "tasks", "graph", "device", "forks"), 1),
    **dict.fromkeys(("data", "elastic", "encoders", "heads"), 2),
    **dict.fromkeys(("score", "measure", "search", "prune", "quantize"), 3),
    **dict.fromkeys(("train", "export"), 4),
    **dict.fromkeys(("job", "verify", "report"), 5),
    "stages": 6,
    **dict.fromkeys(("api", "flow", "console"), 7),
    "cli": 8,
    "__main__": 9,
}
ONLY = {"device": set[str](), "search": {"base", "space"}, "report": {"base"}}
TORCH_FREE = ("base", "space", "search", "job", "report", "device")
TORCH = {"torch", "torch_pruning", "torchvision", "timm", "torchjd"}
BRIDGED = {"optuna", "pymoo", "nni", "onnxruntime", "openvino", "tensorrt", "ray", "torchjd", "nncf", "modelopt"}
HEAVY = BRIDGED | {"plotly", "matplotlib", "sklearn", "scipy", "pandas", "IPython"}


def first(name: str) -> str:
    return name.split(".")[0]


def run_imports(names: list[str]) -> tuple[str, set[str]]:
    """Import modules in a fresh process: what it printed, and which top-level packages it loaded."""
    code = (
        "import contextlib, importlib, io, json, sys\n"
        "said = io.StringIO()\n"
        "with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):\n"
        f"    for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps([said.getvalue(), sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said, loaded = json.loads(done.stdout)
    return said + done.stderr, set(loaded)


def test_every_room_has_a_level() -> None:
    assert rooms() <= set(LEVELS), f"no level for {sorted(rooms() - set(LEVELS))}"
    assert "base" in rooms()


def test_rooms_import_only_lower_levels() -> None:
    wrong = []
    for path in sources():
        room = room_of(module_name(path))
        for name in references(path):
            other = room_of(as_module(name) or name)
            if room == "" and other in {"api", "forks"}:  # the package shows what is public, resolved on first use
                continue
            if room == "" or (other not in {"", room} and LEVELS.get(other, 9) >= LEVELS.get(room, 9)):
                wrong.append(f"{label(path)} -> {name}")
    assert not wrong, "\n".join(wrong)


def test_some_rooms_know_even_less() -> None:
    wrong = []
    for path in sources():
        room = room_of(module_name(path))
        for name in references(path):
            other = room_of(as_module(name) or name)
            if room in ONLY and other not in ONLY[room] | {room, ""}:
                wrong.append(f"{label(path)} -> {name}")
            if room in {"encoders", "heads"} and other in {"tasks", "elastic"}:
                wrong.append(f"{label(path)} -> {name}")
    assert not wrong, "\n".join(wrong)


def test_job_knows_only_configs_and_tables() -> None:
    wrong = []
    for path in sources():
        if room_of(module_name(path)) != "job":
            continue
        for name in references(path):
            module = as_module(name) or name
            if room_of(module) in {"", "base", "space", "job"} or module.rpartition(".")[2] in {"config", "table"}:
                continue
            wrong.append(f"{label(path)} -> {name}")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_cycle() -> None:
    graph = {}
    for name, path in modules().items():
        graph[name] = {m for m in (as_module(i) for i in eager_imports(path)) if m and m != name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, naming the cycle


def is_torch_runtime(path: Path) -> bool:
    """The files of the device room that run networks in torch are named after it, and imported by nothing else."""
    return room_of(module_name(path)) == "device" and path.name.startswith("torch_")


def test_torch_runtimes_are_reached_by_name_only() -> None:
    wrong = [
        f"{label(path)} -> {name}"
        for path in sources()
        for name in eager_imports(path)
        if name.startswith("mtnas.device.torch_") and not is_torch_runtime(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_free_rooms_name_no_torch() -> None:
    wrong = [
        f"{label(path)} -> {name}"
        for path in sources()
        if room_of(module_name(path)) in TORCH_FREE
        for name in all_imports(path)
        if first(name) in TORCH and not is_torch_runtime(path)
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_free_rooms_load_no_torch() -> None:
    names = [n for n, path in modules().items() if room_of(n) in TORCH_FREE and not is_torch_runtime(path)]
    said, loaded = run_imports(names)
    assert said == ""
    assert not loaded & (TORCH | HEAVY), sorted(loaded & (TORCH | HEAVY))


def test_graph_and_measure_load_no_torch() -> None:
    """They import torch only inside the functions that export, or in a runtime file that is named after it."""
    names = [n for n in modules() if room_of(n) in {"graph", "measure"} and "torch" not in n.rpartition(".")[2]]
    _, loaded = run_imports(names or ["mtnas"])
    assert not loaded & TORCH


def test_configs_and_tables_load_no_torch() -> None:
    names = [n for n in modules() if n.rpartition(".")[2] in {"config", "table"}] or ["mtnas"]
    said, loaded = run_imports(names)
    assert said == ""
    assert not loaded & (TORCH | HEAVY), sorted(loaded & (TORCH | HEAVY))


def test_importing_mtnas_is_light_and_silent() -> None:
    said, loaded = run_imports(["mtnas"])
    assert said == ""
    assert not loaded & (TORCH | HEAVY | {"numpy", "onnx", "yaml", "pydantic"})


def test_importing_everything_is_silent_and_loads_nothing_optional() -> None:
    said, loaded = run_imports(list(modules()))
    assert said == ""
    ours = {"plotly", "sklearn"} | BRIDGED
    assert not loaded & ours - _pulled_by_torch(), sorted(loaded & ours)


def _pulled_by_torch() -> set[str]:
    """What torch, torch-pruning and onnx load by themselves is not ours to answer for."""
    return run_imports(["torch", "torch_pruning", "onnx"])[1]


def test_bridged_packages_are_imported_lazily() -> None:
    wrong = [
        f"{label(path)} -> {name}"
        for path in sources()
        for name in eager_imports(path)
        if first(name) in BRIDGED | {"plotly", "sklearn", "matplotlib"}
    ]
    assert not wrong, "\n".join(wrong)


def test_a_bridge_file_bridges_one_package() -> None:
    """The device's runner may not import ours, so it holds its runtimes itself."""
    wrong = []
    for path in sources():
        if room_of(module_name(path)) == "device":
            continue
        bridged = {first(name) for name in all_imports(path)} & BRIDGED
        if len(bridged) > 1:
            wrong.append(f"{label(path)}: {sorted(bridged)}")
    assert not wrong, "\n".join(wrong)
