"""Writes the folder of a run that never happened: every result file as the stages write them, up to a given stage."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from report_parts import parts_record, stairs_record

STAGES = ("start", "space", "train", "profile", "search", "prune", "quantize", "export", "verify", "certify")
METRICS = {
    "segmentation": {"miou": 61.2, "pixel_accuracy": 84.0},
    "depth": {"abs_err": 0.412, "rmse": 0.61, "delta_1.25^1": 78.0},
    "normals": {"mean_angle": 14.2, "median_angle": 9.8, "within_11.25": 60.0},
    "edges": {"edge_f_dt@1px": 71.5},
}
LOWER = {"abs_err", "rmse", "mean_angle", "median_angle"}
UNITS = {"segmentation": "%", "depth": "m", "normals": "deg", "edges": "%"}


def measured(value: float, spread: float = 0.012, statistic: str = "p50", unit: str = "ms") -> dict[str, Any]:
    low, high = value * (1 - spread), value * (1 + spread)
    return {
        "value": value,
        "low": low,
        "high": high,
        "unit": unit,
        "count": 360,
        "statistic": statistic,
        "device": "local-ort",
        "kind": "measured",
    }


def predicted(value: float, spread: float = 0.05) -> dict[str, Any]:
    return {
        "value": value,
        "low": value * (1 - spread),
        "high": value * (1 + spread),
        "unit": "ms",
        "coverage": 0.9,
        "kind": "predicted",
    }


def counted(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "kind": "counted"}


@dataclass
class FakeRun:
    """One fabricated run; `prefix` is put before every name, to see whether names are escaped."""

    folder: Path
    prefix: str = ""
    met: bool = True
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    @property
    def tasks(self) -> list[str]:
        return [self.prefix + name for name in METRICS]

    @property
    def sizes(self) -> dict[str, int]:
        shared = {
            f"{self.prefix}encoder.stages.{s}.{b}.conv{c}": 32 * (s + 1) for s in range(4) for b in (0, 1) for c in (1,)
        }
        heads = {f"heads.{task}.convs.{k}": 48 for task in self.tasks for k in (0, 1)}
        return {f"{self.prefix}encoder.stem": 32, **shared, **heads}

    def write(self, path: str, value: Any) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value), encoding="utf-8")

    def lines(self, path: str, records: Sequence[Any]) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    # --- networks -------------------------------------------------------------------------------------------------

    def scores(self, share: float, noise: float = 0.004) -> dict[str, dict[str, float]]:
        """Metrics of a network with this share of the full one's latency."""
        loss = 0.16 * (1 - share) ** 1.6
        found: dict[str, dict[str, float]] = {}
        for name, metrics in METRICS.items():
            own = loss + float(self.rng.normal(0, noise))
            found[self.prefix + name] = {m: v * (1 + own if m in LOWER else 1 - own) for m, v in metrics.items()}
        return found

    def costs(self, share: float, latency: dict[str, Any]) -> dict[str, Any]:
        macs, params = 310e6 * share**1.3, 1.04e6 * share**1.5
        return {
            "macs": counted(macs, "MACs"),
            "params": counted(params, "parameters"),
            "size_mb": counted(params * 4 / 1e6, "MB"),
            "latency_ms": latency,
        }

    def trial(self, number: int, share: float, strategy: str, lucky: float) -> dict[str, Any]:
        latency = 3.1 * share
        scores = self.scores(share + lucky)
        headline = {task: next(iter(metrics.values())) for task, metrics in scores.items()}
        gap = max(0.0, latency / (0.45 * 3.1) - 1)
        floors = {task: max(0.0, 0.02 * self.rng.normal()) for task in scores} if share < 0.3 else {}
        return {
            "number": number,
            "id": f"{number:04d}{strategy[:2]}abcdef",
            "arch": self.widths(share),
            "strategy": strategy,
            "objectives": {**headline, "latency_ms": latency},
            "costs": self.costs(share, predicted(latency)),
            "scores": scores,
            "violations": {"latency_ms": gap, **floors},
            "feasible": gap <= 0 and not any(floors.values()),
            "seconds": 0.8,
            "origin": "ask",
        }

    def widths(self, share: float) -> dict[str, int]:
        return {
            n: int(max(8, round(s * (share + self.rng.uniform(-0.15, 0.2)) / 8) * 8)) if share < 1 else s
            for n, s in self.sizes.items()
        }

    # --- stages ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        import yaml

        job = {"name": f"{self.prefix}demo", "seed": 0, "data": {"name": "scenes", "height": 64, "width": 64}}
        job["tasks"] = [{"name": task, "weight": None} for task in self.tasks]
        job["budget"] = {"latency_ms": "45%"}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "job.resolved.yaml").write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
        cpu = {
            "model": "A processor with 2 cores",
            "machine": "x86_64",
            "cores": 2,
            "features": ["avx2", "avx512_vnni"],
        }
        versions = {"python": "3.11.7", "torch": "2.13.0", "onnxruntime": "1.31.0"}
        machine = {"schema": "machine/1", "mtnas": "0.1.0", "cpu": cpu, "memory_mb": 8123.0, "governor": None}
        self.write("machine.json", {**machine, "system": "Linux", "versions": versions})

    def space(self) -> None:
        tasks = self.tasks
        groups = [
            {
                "name": name,
                "size": size,
                "frozen": "",
                "options": [size // 4, size // 2, 3 * size // 4, size],
                "owners": tasks if "heads" not in name else [task for task in tasks if f".{task}." in name],
            }
            for name, size in self.sizes.items()
        ]
        groups += [
            {"name": f"heads.{t}.out", "size": 3, "frozen": f"is output {t!r}", "options": [3], "owners": [t]}
            for t in tasks
        ]
        branches = {"shared": {"macs": 168e6, "params": 0.7e6}}
        branches |= {task: {"macs": 30e6 + 4e6 * k, "params": 8e4} for k, task in enumerate(tasks)}
        ends = {"macs": 310e6, "params": 1.04e6, "size_mb": 4.16}, {"macs": 21e6, "params": 7e4, "size_mb": 0.28}
        self.write(
            "1-space/space.json",
            {
                "schema": "space-stage/1",
                "groups": groups,
                "log10_size": 10.2,
                "largest": ends[0],
                "smallest": ends[1],
                "branches": branches,
                "width_step": {"step": 16, "asked": "probe"},
            },
        )
        self.write("1-space/stairs.json", stairs_record())

    def train(self) -> None:
        scores = {"largest": self.scores(1.0), "smallest": self.scores(0.1)}
        facts = {
            "epochs": 12,
            "steps": 768,
            "seconds": 141.0,
            "images_per_second": 174.0,
            "mode": "bfloat16, channels last",
        }
        self.write("2-train/train.json", {"schema": "train/1", **facts, "scores": scores})
        curve = []
        for step in range(1, 121):
            fall = float(np.exp(-step / 30))
            start = (1.6, 0.5, 0.4, 0.3)
            losses = {
                t: (0.1 + s * fall) * (1 + 0.03 * self.rng.normal()) for t, s in zip(self.tasks, start, strict=True)
            }
            record = {"step": step * 6, "epoch": step / 10, "lr": 3e-3 * fall, "seconds": step, "losses": losses}
            sizes = {"largest": 0.8, "smallest": 0.6}
            look = {end: dict.fromkeys(self.tasks, size * (1 - fall)) for end, size in sizes.items()}
            scores = {"scores": look} if step % 20 == 0 else {}
            curve.append({**record, **scores, "total": sum(losses.values())})
        self.lines("2-train/curves.jsonl", curve)

    def profile(self) -> None:
        points = []
        for k, share in enumerate(np.linspace(0.15, 1.0, 40)):
            value = 3.1 * float(share)
            guess = value * (1 + 0.025 * float(self.rng.normal()))
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
        self.write("3-profile/parts.json", parts_record(self.tasks, 3.1))
        self.write(
            "3-profile/profile.json", {"schema": "profile-stage/1", **device, **ends, **quality, "predictor": predictor}
        )

    def search(self) -> None:
        shares = np.clip(self.rng.beta(2.2, 3.0, 64), 0.12, 1.0)
        trials = [self.trial(k, float(s), "nsga2", 0.05) for k, s in enumerate(shares)]
        random = [self.trial(k, float(s), "random", 0.0) for k, s in enumerate(self.rng.uniform(0.2, 1.0, 64))]
        self.lines("4-search/trials.jsonl", [{"schema": "trials/1", "seed": 1}, *trials])
        self.lines("4-search/random.jsonl", [{"schema": "trials/1", "seed": 1}, *random])
        front = []
        for k, share in enumerate((0.2, 0.24, 0.29, 0.33, 0.37, 0.41, 0.44)):
            front.append(self.network(f"f{k}0abc123def", share))
        full = self.network("fullfullfull", 1.0)
        floors = {
            task: {"bound": v * (1.15 if m in LOWER else 0.85), "metric": m, "text": "-15%"}
            for task, (m, v) in zip(self.tasks, (next(iter(x.items())) for x in METRICS.values()), strict=True)
        }
        objectives = [
            {"name": task, "unit": UNITS[name], "higher_is_better": next(iter(METRICS[name])) not in LOWER}
            for task, name in zip(self.tasks, METRICS, strict=True)
        ]
        steps = np.arange(1, 65)
        volume = {
            "nsga2": list(np.maximum.accumulate(0.9 * (1 - np.exp(-steps / 14)))),
            "random": list(np.maximum.accumulate(0.74 * (1 - np.exp(-steps / 18)))),
        }
        self.write(
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

    def network(self, name: str, share: float) -> dict[str, Any]:
        latency = 3.1 * share
        widths = self.widths(share)
        return {
            "id": name,
            "arch": widths,
            "widths": widths,
            "scores": self.scores(share + 0.06 * (share < 1), 0.001),
            "costs": self.costs(share, measured(latency)),
            "predicted_latency_ms": predicted(latency * 1.01),
            "feasible": True,
        }

    def prune(self) -> None:
        widths = {
            name: {"full": size, "chosen": max(8, size // 2), "pruned": max(8, size // 2 - (8 if k % 3 == 0 else 0))}
            for k, (name, size) in enumerate(self.sizes.items())
        }
        steps = []
        latency = 1.364
        for k, name in enumerate(list(self.sizes)[:9]):
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
        self.write(
            "5-prune/prune.json",
            {
                "schema": "prune/1",
                "widths": widths,
                "steps": steps,
                "gate": gate,
                "kept": "pruned",
                "stopped_because": "target reached",
                "before": {"scores": self.scores(0.5), "costs": self.costs(0.44, measured(1.364))},
                "after": {"scores": self.scores(0.55), "costs": self.costs(0.41, measured(1.271))},
                "finetune": {
                    "epochs": 4,
                    "curves": [{"epoch": e, "losses": dict.fromkeys(self.tasks, 0.3 / e)} for e in (1, 2, 3, 4)],
                },
            },
        )

    def quantize(self) -> None:
        floats = [
            {"name": f"/heads/{task}/Resize", "op": "Resize", "why": "up-sampling stays in float by setting"}
            for task in self.tasks
        ]
        gate = {"verdict": "faster", "ratio": 0.71, "low": 0.70, "high": 0.72, "text": "29 % faster"}
        self.write(
            "6-quantize/quantize.json",
            {
                "schema": "quantize/1",
                "dialect": "onnxruntime-x64",
                "int8_nodes": 31,
                "float_nodes": floats,
                "conversions": 9,
                "scores": {"float": self.scores(0.55), "int8": self.scores(0.5)},
                "gate": gate,
                "costs": {
                    "float": {"latency_ms": measured(1.27), "size_mb": counted(1.1, "MB")},
                    "int8": {"latency_ms": measured(0.9), "size_mb": counted(0.31, "MB")},
                },
                "delivered": "int8",
                "reason": "int8 is faster: 29 % faster; 31 nodes run as int8",
            },
        )

    def export(self) -> None:
        outputs = [
            {
                "task": task,
                "shape": [1, 3, 64, 64],
                "type": name,
                "unit": UNITS[name],
                "activation": "identity",
                "class_names": [],
            }
            for task, name in zip(self.tasks, METRICS, strict=True)
        ]
        given = {
            "name": "image",
            "shape": [1, 3, 64, 64],
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "colours": "RGB",
            "dtype": "float32",
        }
        self.write(
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

    def verify(self) -> None:
        names = {"full": (1.0, 3.1), "chosen": (0.5, 1.364), "pruned": (0.56, 1.271), "int8": (0.52, 0.9)}
        table = []
        for name, (share, latency) in names.items():
            counts = {key: self.costs(share, {})[key]["value"] for key in ("macs", "params", "size_mb")}
            both = {"latency_ms_p50": measured(latency), "latency_ms_p95": measured(latency * 1.07, statistic="p95")}
            table.append({"name": name, "scores": self.scores(share), **counts, **both})
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
                "problems": [] if self.met else ["largest error above the tolerance"],
                "ok": self.met,
            }
            for task, metrics in table[2]["scores"].items()
        ]
        branches = {"shared": {"macs": 70e6, "params": 0.25e6}}
        branches |= {task: {"macs": 9e6 + 2e6 * k, "params": 2e4} for k, task in enumerate(self.tasks)}
        record = {
            "schema": "verify/1",
            "passed": self.met,
            "heads": heads,
            "split": "report",
            "table": table,
            "branches": branches,
        }
        self.write("8-verify/parts.json", parts_record(self.tasks, 0.9, alone=False))
        self.write("8-verify/verify.json", {**record, "pictures": self.pictures()})

    def certify(self) -> None:
        limit = {"name": "latency_ms", "bound": 0.45 * 3.1 if self.met else 0.8, "statistic": "p50"}
        limit |= {"measured": measured(0.9), "predicted": predicted(0.93), "met": self.met}
        device = {"device": "local-ort", "runtime": "onnxruntime 1.31.0", "threads": 1, "processes": 3}
        facts = {"aa_resolution_percent": 0.8, "model_sha256": "0f" * 32, "text": "kept"}
        self.write(
            "8-verify/certificate.json",
            {"schema": "certificate/1", "met": self.met, "limits": [limit], **device, **facts},
        )

    def pictures(self) -> list[dict[str, Any]]:
        from PIL import Image

        folder = self.folder / "8-verify" / "pictures"
        folder.mkdir(parents=True, exist_ok=True)

        def paint(name: str) -> str:
            y, x = np.mgrid[0:64, 0:64] / 63.0
            shift = self.rng.uniform(0, 1, 3)
            rgb = np.stack([np.abs(np.sin(4 * (x * a + y * (1 - a) + a))) for a in shift], axis=-1)
            stream = io.BytesIO()
            Image.fromarray((rgb * 255).astype(np.uint8)).save(stream, format="PNG")
            (folder / name).write_bytes(stream.getvalue())
            return f"pictures/{name}"

        rows = []
        for index in (3, 8, 21):
            tasks = {
                task: {key: paint(f"{index}-{k}-{key}.png") for key in ("truth", "before", "after")}
                for k, task in enumerate(self.tasks)
            }
            rows.append({"index": index, "image": paint(f"{index}-image.png"), "tasks": tasks})
        return rows

    # --- all ------------------------------------------------------------------------------------------------------

    def upto(self, last: str) -> Path:
        """Write every stage up to `last`, with its events."""
        events = []
        for number, stage in enumerate(STAGES[: STAGES.index(last) + 1]):
            getattr(self, stage)()
            if stage != "start":
                ended = {"time": 1.78e9 + 40 * number, "stage": stage, "event": "end", "seconds": 12.5 * number}
                events += [{"time": 1.78e9 + 40 * number - 30, "stage": stage, "event": "start"}, ended]
        self.lines("events.jsonl", events)
        return self.folder
