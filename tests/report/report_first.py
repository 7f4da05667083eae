"""The first stages of a fabricated run, up to the search."""

from __future__ import annotations

import numpy as np
import yaml
from report_folder import FakeFolder
from report_parts import parts_record, stairs_record
from report_values import LOWER, METRICS, UNITS, measured


def start(run: FakeFolder) -> None:
    job = {"name": f"{run.prefix}demo", "seed": 0, "data": {"name": "scenes", "height": 64, "width": 64}}
    job["tasks"] = [{"name": task, "weight": None} for task in run.tasks]
    job["budget"] = {"latency_ms": "45%"}
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "job.resolved.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    cpu = {
        "model": "A processor with 2 cores",
        "machine": "x86_64",
        "cores": 2,
        "features": ["avx2", "avx512_vnni"],
    }
    versions = {"python": "3.11.7", "torch": "2.13.0", "onnxruntime": "1.31.0"}
    machine = {"schema": "machine/1", "mtnas": "0.1.0", "cpu": cpu, "memory_mb": 8123.0, "governor": None}
    run.write("machine.json", {**machine, "system": "Linux", "versions": versions})


def space(run: FakeFolder) -> None:
    tasks = run.tasks
    groups = [
        {
            "name": name,
            "size": size,
            "frozen": "",
            "options": [size // 4, size // 2, 3 * size // 4, size],
            "owners": tasks if "heads" not in name else [task for task in tasks if f".{task}." in name],
        }
        for name, size in run.sizes.items()
    ]
    groups += [
        {"name": f"heads.{t}.out", "size": 3, "frozen": f"is output {t!r}", "options": [3], "owners": [t]}
        for t in tasks
    ]
    branches = {"shared": {"macs": 168e6, "params": 0.7e6}}
    branches |= {task: {"macs": 30e6 + 4e6 * k, "params": 8e4} for k, task in enumerate(tasks)}
    ends = {"macs": 310e6, "params": 1.04e6, "size_mb": 4.16}, {"macs": 21e6, "params": 7e4, "size_mb": 0.28}
    run.write(
        "1-space/space.json",
        {
            "schema": "space-stage/1",
            "groups": groups,
            "log10_size": 10.2,
            "largest": ends[0],
            "smallest": ends[1],
            "branches": branches,
            "savings": {
                "shared part": {"macs": 0.5, "params": 0.6},
                "decoders together": {"macs": 0.375, "params": 0.3},
                **{task: {"macs": 0.375 / len(tasks), "params": 0.1} for task in tasks},
            },
            "width_step": {"step": 16, "asked": "probe"},
        },
    )
    run.write("1-space/stairs.json", stairs_record())


def train(run: FakeFolder) -> None:
    scores = {"largest": run.scores(1.0), "smallest": run.scores(0.1)}
    facts = {
        "epochs": 12,
        "steps": 768,
        "seconds": 141.0,
        "images_per_second": 174.0,
        "mode": "bfloat16, channels last",
    }
    run.write("2-train/train.json", {"schema": "train/1", **facts, "scores": scores})
    curve = []
    for step in range(1, 121):
        fall = float(np.exp(-step / 30))
        start = (1.6, 0.5, 0.4, 0.3)
        losses = {t: (0.1 + s * fall) * (1 + 0.03 * run.rng.normal()) for t, s in zip(run.tasks, start, strict=True)}
        record = {"step": step * 6, "epoch": step / 10, "lr": 3e-3 * fall, "seconds": step, "losses": losses}
        sizes = {"largest": 0.8, "smallest": 0.6}
        look = {end: dict.fromkeys(run.tasks, size * (1 - fall)) for end, size in sizes.items()}
        scores = {"scores": look} if step % 20 == 0 else {}
        curve.append({**record, **scores, "total": sum(losses.values())})
    run.lines("2-train/curves.jsonl", curve)


def profile(run: FakeFolder) -> None:
    points = []
    for k, share in enumerate(np.linspace(0.15, 1.0, 40)):
        value = 3.1 * float(share)
        guess = value * (1 + 0.025 * float(run.rng.normal()))
        points.append(
            {
                "measured": value,
                "predicted": guess,
                "low": guess * 0.95,
                "high": guess * 1.05,
                "held_out": k % 4 == 0,
            }
        )
    held = {"spearman": 0.994, "mape_percent": 1.9, "median_error_percent": 1.4, "within_10_percent": 100.0}
    predictor = {
        "kind": "ridge 0.01",
        "columns": "step 16",
        "steps": {"conv3x3": 16, "conv1x1": 1},
        "scores": {"step 8": 3.1, "step 16": 2.2, "non-negative 1e-06": 2.2, "ridge 0.01": 1.9},
        "held_out": {**held, "coverage_percent": 90.0, "count": 10},
        "points": points,
        "trustworthy": True,
        "doubt": "",
    }
    device = {"device": "local-ort", "runtime": "onnxruntime 1.31.0", "threads": 1, "aa_resolution_percent": 0.8}
    ends = {"largest": measured(3.1), "smallest": measured(0.42)}
    learning = {"networks": [10, 20, 30], "errors_percent": [4.0, 2.5, 1.9], "reason": "good enough", "more": 40}
    quality = {
        "measured": 40,
        "learning": {**learning, "gain_percent": 0.31, "sentence": ""},
        "outliers": {"count": 12, "runs": 4800, "share_percent": 0.25, "interrupted": 9, "networks": 7},
        "untrusted": {"networks": 2, "reasons": [{"example": "load 3.1 on 2 <cores>", "networks": 2}]},
        "costs": {"memory_mb": {"kind": "ridge 0.1", "unit": "mb", "doubt": "", "held_out": {**held, "count": 4}}},
    }
    run.write("3-profile/parts.json", parts_record(run.tasks, 3.1))
    run.write(
        "3-profile/profile.json", {"schema": "profile-stage/1", **device, **ends, **quality, "predictor": predictor}
    )


def search(run: FakeFolder) -> None:
    shares = np.clip(run.rng.beta(2.2, 3.0, 64), 0.12, 1.0)
    trials = [run.trial(k, float(s), "nsga2", 0.05) for k, s in enumerate(shares)]
    random = [run.trial(k, float(s), "random", 0.0) for k, s in enumerate(run.rng.uniform(0.2, 1.0, 64))]
    run.lines("4-search/trials.jsonl", [{"schema": "trials/1", "seed": 1}, *trials])
    run.lines("4-search/random.jsonl", [{"schema": "trials/1", "seed": 1}, *random])
    front = []
    for k, share in enumerate((0.2, 0.24, 0.29, 0.33, 0.37, 0.41, 0.44)):
        front.append(run.network(f"f{k}0abc123def", share))
    full = run.network("fullfullfull", 1.0)
    floors = {
        task: {"bound": v * (1.15 if m in LOWER else 0.85), "metric": m, "text": "-15%"}
        for task, (m, v) in zip(run.tasks, (next(iter(x.items())) for x in METRICS.values()), strict=True)
    }
    objectives = [
        {"name": task, "unit": UNITS[name], "higher_is_better": next(iter(METRICS[name])) not in LOWER}
        for task, name in zip(run.tasks, METRICS, strict=True)
    ]
    steps = np.arange(1, 65)
    volume = {
        "nsga2": list(np.maximum.accumulate(0.9 * (1 - np.exp(-steps / 14)))),
        "random": list(np.maximum.accumulate(0.74 * (1 - np.exp(-steps / 18)))),
    }
    run.write(
        "4-search/search.json",
        {
            "schema": "search/1",
            "strategy": "nsga2",
            "objectives": [*objectives, {"name": "latency_ms", "unit": "ms", "higher_is_better": False}],
            "limits": {"latency_ms": {"bound": 0.45 * 3.1, "text": "45%"}},
            "floors": floors,
            "reference_point": {},
            "hypervolume": volume,
            "front": front,
            "chosen": front[-1],
            "full": full,
        },
    )
