"""Energy of one inference, where the device has a counter; absent elsewhere, never zero and never guessed.

Measured in loops of its own that last for seconds, apart from latency, between windows of doing nothing: counters see
the whole supply, so the idle power around each loop is subtracted. What a command behind `reach: hook` answers is taken
as it is.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from mtnas.base.errors import DeviceMissing
from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.measure.config import MeasureConfig
from mtnas.measure.lock import exclusive
from mtnas.measure.reach.base import Model, events, settings_of
from mtnas.measure.reach.open import is_local, open_reach
from mtnas.measure.statistics import quantile_interval

REPEATS = 5
IDLE_S = 1.0


def energy(model: Model, config: MeasureConfig, *, progress: Progress | None = None) -> Measured:
    """Millijoules of one inference beyond idling: median over loops, with its order-statistics interval.

    Raises:
        DeviceMissing: the device has no counter that sees this runtime's work (the message names what was looked for),
            or the network's energy does not stand out of the idle power's noise.
    """
    progress = progress or Silent()
    rules = {"repeats": REPEATS, "loop_s": config.energy_loop_s, "idle_s": min(IDLE_S, config.energy_loop_s)}
    job = {"kind": "energy", "measured": ["model"], **settings_of(config), **rules}
    lock = exclusive(config.lock_wait_s, progress) if is_local(config) else nullcontext()
    with lock, open_reach(config, "energy", progress) as reach, progress.task("energy", 1) as bar:
        records = list(reach.run(job, {"model": model}))
        bar.advance()
    absent = [record for record in records if record.get("event") == "energy-absent"]
    if absent:
        raise DeviceMissing(
            "a device with an energy counter",
            received="none found; " + "; ".join(absent[0]["looked_for"]),
            where=f"budget.energy_mj on device {config.device}",
            cure="remove this limit, give read rights on the counter, or measure on a device that has one",
        )
    return measured_energy(events(records, "energy")["model"]["repeats"], config)


def measured_energy(repeats: list[dict[str, float]], config: MeasureConfig) -> Measured:
    """From the rows of `mtnas.device.energy.energy_repeats`; loops lie apart in time."""
    net_mj = np.asarray([row["net_mj"] for row in repeats])
    low, high = quantile_interval(net_mj, 0.5, config.confidence)
    if low <= 0.0:
        raise DeviceMissing(
            "an energy that stands out of the idle power",
            received=f"{float(np.median(net_mj)):.3g} mJ ({low:.3g} to {high:.3g}) a run",
            where=f"device {config.device}",
            cure="stop other work there, or raise device.energy_loop_s",
        )
    runs = int(sum(row["runs"] for row in repeats))
    return Measured(float(np.median(net_mj)), low, high, "mj", runs, "above idle", config.device)
