"""Values of a fabricated run as result files write them, and the metrics of its tasks."""

from __future__ import annotations

from typing import Any

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
