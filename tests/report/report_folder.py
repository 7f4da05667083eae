"""The folder of a run that never happened, and the networks that its stages tell of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from report_values import LOWER, METRICS, counted, measured, predicted


@dataclass
class FakeFolder:
    """Where a fabricated run is written, and its networks; `prefix` is put before every name, to see escaping."""

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
