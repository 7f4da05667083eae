"""The last stages of a fabricated run, from pruning to the certificate."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from report_folder import FakeFolder
from report_parts import parts_record
from report_values import METRICS, UNITS, counted, measured, predicted


def prune(run: FakeFolder) -> None:
    widths = {
        name: {"full": size, "chosen": max(8, size // 2), "pruned": max(8, size // 2 - (8 if k % 3 == 0 else 0))}
        for k, (name, size) in enumerate(run.sizes.items())
    }
    steps = []
    latency = 1.364
    for k, name in enumerate(list(run.sizes)[:9]):
        accepted = k not in (3, 6)
        trial = latency * (0.985 if accepted else 1.004)
        latency = trial if accepted else latency
        steps.append(
            {
                "number": k,
                "group": name,
                "removed": list(range(8)),
                "importance": 0.01 * k,
                "accepted": accepted,
                "latency_ms": trial,
                "ratio": 0.985,
                "low": 0.98,
                "high": 0.99,
            }
        )
    gate = {
        "verdict": "faster",
        "ratio": 0.93,
        "low": 0.92,
        "high": 0.94,
        "text": "faster",
        "decision": "the pruned network is delivered",
    }
    run.write(
        "5-prune/prune.json",
        {
            "schema": "prune/1",
            "widths": widths,
            "steps": steps,
            "gate": gate,
            "kept": "pruned",
            "stopped_because": "target reached",
            "before": {"scores": run.scores(0.5), "costs": run.costs(0.44, measured(1.364))},
            "after": {"scores": run.scores(0.55), "costs": run.costs(0.41, measured(1.271))},
            "finetune": {
                "epochs": 4,
                "curves": [{"epoch": e, "losses": dict.fromkeys(run.tasks, 0.3 / e)} for e in (1, 2, 3, 4)],
            },
        },
    )


def quantize(run: FakeFolder) -> None:
    floats = [
        {"name": f"/heads/{task}/Resize", "op": "Resize", "why": "up-sampling stays in float by setting"}
        for task in run.tasks
    ]
    gate = {"verdict": "faster", "ratio": 0.71, "low": 0.70, "high": 0.72, "text": "29 % faster"}
    run.write(
        "6-quantize/quantize.json",
        {
            "schema": "quantize/1",
            "dialect": "onnxruntime-x64",
            "int8_nodes": 31,
            "float_nodes": floats,
            "conversions": 9,
            "scores": {"float": run.scores(0.55), "int8": run.scores(0.5)},
            "gate": gate,
            "costs": {
                "float": {"latency_ms": measured(1.27), "size_mb": counted(1.1, "MB")},
                "int8": {"latency_ms": measured(0.9), "size_mb": counted(0.31, "MB")},
            },
            "delivered": "int8",
            "reason": "int8 is faster: 29 % faster; 31 nodes run as int8",
        },
    )


def export(run: FakeFolder) -> None:
    outputs = [
        {
            "task": task,
            "shape": [1, 3, 64, 64],
            "type": name,
            "unit": UNITS[name],
            "activation": "identity",
            "class_names": [],
        }
        for task, name in zip(run.tasks, METRICS, strict=True)
    ]
    given = {
        "name": "image",
        "shape": [1, 3, 64, 64],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "colours": "RGB",
        "dtype": "float32",
    }
    run.write(
        "7-export/manifest.json",
        {
            "schema": "manifest/1",
            "file": "model.onnx",
            "sha256": "0f" * 32,
            "bytes": 412345,
            "opset": 20,
            "precision": "int8",
            "input": given,
            "outputs": outputs,
        },
    )


def verify(run: FakeFolder) -> None:
    names = {"full": (1.0, 3.1), "chosen": (0.5, 1.364), "pruned": (0.56, 1.271), "int8": (0.52, 0.9)}
    table = []
    for name, (share, latency) in names.items():
        counts = {key: run.costs(share, {})[key]["value"] for key in ("macs", "params", "size_mb")}
        both = {"latency_ms_p50": measured(latency), "latency_ms_p95": measured(latency * 1.07, statistic="p95")}
        table.append({"name": name, "scores": run.scores(share), **counts, **both})
    heads = [
        {
            "task": task,
            "output": task,
            "shape": [1, 3, 64, 64],
            "max_relative_error_float": 3.1e-6,
            "tolerance": 1e-3,
            "metrics": {"torch": metrics, "onnx": metrics, "delivered": table[-1]["scores"][task]},
            "metric": next(iter(metrics)),
            "floor": None,
            "problems": [] if run.met else ["largest error above the tolerance"],
            "ok": run.met,
        }
        for task, metrics in table[2]["scores"].items()
    ]
    branches = {"shared": {"macs": 70e6, "params": 0.25e6}}
    branches |= {task: {"macs": 9e6 + 2e6 * k, "params": 2e4} for k, task in enumerate(run.tasks)}
    record = {
        "schema": "verify/1",
        "passed": run.met,
        "heads": heads,
        "split": "report",
        "table": table,
        "branches": branches,
    }
    run.write("8-verify/parts.json", parts_record(run.tasks, 0.9, alone=False))
    run.write("8-verify/verify.json", {**record, "pictures": pictures(run)})


def certify(run: FakeFolder) -> None:
    limit = {"name": "latency_ms", "bound": 0.45 * 3.1 if run.met else 0.8, "statistic": "p50"}
    limit |= {"measured": measured(0.9), "predicted": predicted(0.93), "met": run.met}
    device = {"device": "local-ort", "runtime": "onnxruntime 1.31.0", "threads": 1, "processes": 3}
    facts = {"aa_resolution_percent": 0.8, "model_sha256": "0f" * 32, "text": "kept"}
    run.write(
        "8-verify/certificate.json",
        {"schema": "certificate/1", "met": run.met, "limits": [limit], **device, **facts},
    )


def pictures(run: FakeFolder) -> list[dict[str, Any]]:
    folder = run.folder / "8-verify" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)

    def paint(name: str) -> str:
        y, x = np.mgrid[0:64, 0:64] / 63.0
        shift = run.rng.uniform(0, 1, 3)
        rgb = np.stack([np.abs(np.sin(4 * (x * a + y * (1 - a) + a))) for a in shift], axis=-1)
        stream = io.BytesIO()
        Image.fromarray((rgb * 255).astype(np.uint8)).save(stream, format="PNG")
        (folder / name).write_bytes(stream.getvalue())
        return f"pictures/{name}"

    rows = []
    for index in (3, 8, 21):
        tasks = {
            task: {key: paint(f"{index}-{k}-{key}.png") for key in ("truth", "before", "after")}
            for k, task in enumerate(run.tasks)
        }
        rows.append({"index": index, "image": paint(f"{index}-image.png"), "tasks": tasks})
    return rows
