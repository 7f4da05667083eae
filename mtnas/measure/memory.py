"""Peak memory that a network adds to a fresh process in which the runtime already works.

Weights, activations and what the runtime allocates beside them; not Python, not the runtime's own libraries, which a
device pays once whatever the network. Latency is never taken in the same process.
"""

from __future__ import annotations

import numpy as np

from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.measure.anchor import empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.reach.base import Model, events, settings_of
from mtnas.measure.reach.open import open_reach


def peak_memory(model: Model, config: MeasureConfig, *, progress: Progress | None = None) -> Measured:
    """Median over `config.processes` fresh processes, in MB (1e6 bytes); the interval is their smallest and largest."""
    progress, added_mb = progress or Silent(), []
    models: dict[str, Model] = {"empty": empty_model(), "model": model}
    job = {"kind": "memory", "measured": ["model"], **settings_of(config)}
    with open_reach(config, "memory", progress) as reach, progress.task("memory", config.processes) as bar:
        for process in range(config.processes):
            found = events(list(reach.run({**job, "process": process}, models)), "memory")["model"]
            added_mb.append(max(0.0, found["peak_mb"] - found["base_mb"]))
            bar.advance()
    return Measured(
        float(np.median(added_mb)), min(added_mb), max(added_mb), "mb", len(added_mb), "peak", config.device
    )
