"""Memory and energy of some of a profile's networks, measured in fresh processes, and predictors of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtnas.base.errors import DeviceMissing
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress
from mtnas.base.quantity import Measured
from mtnas.measure.choose import FOLDS
from mtnas.measure.config import MeasureConfig
from mtnas.measure.energy import energy
from mtnas.measure.memory import peak_memory
from mtnas.measure.predictor import CostPredictor, fit
from mtnas.measure.profile_files import ProfilePoint

UNITS = {"memory_mb": "mb", "energy_mj": "mj"}
_MEASURES = {"memory_mb": peak_memory, "energy_mj": energy}


def fit_costs(
    journal: Journal,
    cut: Callable[[Selection], Any],
    points: Sequence[ProfilePoint],
    config: MeasureConfig,
    names: Sequence[str],
    progress: Progress,
) -> dict[str, CostPredictor]:
    """Predictors of memory and energy by name; without `config.cost_samples`, or without a counter, none.

    Measured are the points that come first, the extremes among them; each is journalled, and asked for once.
    """
    found = {}
    chosen = _some(points, config.cost_samples)
    for name in UNITS if chosen else ():
        values = _measure(name, journal, cut, chosen, config, progress)
        known = [point for point in chosen if point.selection.id in values]
        if sum(not point.held_out for point in known) < FOLDS:
            continue
        cost_N = np.asarray([values[point.selection.id] for point in known])
        features_NF = np.asarray([point.features_F for point in known])
        away = [i for i, point in enumerate(known) if point.held_out]
        found[name] = fit(
            features_NF,
            cost_N,
            config.seed,
            held_out=away,
            coverage=config.coverage,
            names=names,
            unit=UNITS[name],
        )
    return found


def _some(points: Sequence[ProfilePoint], count: int) -> list[ProfilePoint]:
    """The first `count` points, with a share of held-out ones as large as asked of latency."""
    away = [point for point in points if point.held_out]
    train = [point for point in points if not point.held_out]
    share = round(count * len(away) / max(1, len(points)))
    return train[: count - share] + away[:share]


def _measure(
    name: str,
    journal: Journal,
    cut: Callable[[Selection], Any],
    points: Sequence[ProfilePoint],
    config: MeasureConfig,
    progress: Progress,
) -> dict[str, float]:
    """One cost of these points by selection; ends early where the device cannot measure it."""
    values = {
        record["id"]: float(record["measured"]["value"])
        for record in journal.records()
        if record["kind"] == "cost" and record["cost"] == name
    }
    with progress.task(f"measuring {name}", len(points)) as bar:
        for point in points:
            if point.selection.id not in values:
                try:
                    measured: Measured = _MEASURES[name](cut(point.selection), config, progress=progress)
                except DeviceMissing as error:
                    progress.note(f"no predictor of {name}: {error.received}")
                    return values
                journal.append(_record(name, point, measured))
                values[point.selection.id] = measured.value
            bar.advance()
    return values


def _record(name: str, point: ProfilePoint, measured: Measured) -> dict[str, Any]:
    return {"kind": "cost", "cost": name, "id": point.selection.id, "measured": measured.to_json()}
