"""Peak memory that a network adds to a fresh process in which the runtime already works.

Weights, activations and what the runtime allocates beside them; not Python, not the runtime's own libraries, which a
device pays once whatever the network. Latency is never taken in the same process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mtnas.base.progress import Progress, Silent
from mtnas.base.quantity import Measured
from mtnas.measure.anchor import empty_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.reach.local import events, run_job


def peak_memory(model: bytes | Path, config: MeasureConfig, *, progress: Progress | None = None) -> Measured:
    """Median over `config.processes` fresh processes, in MB (1e6 bytes); the interval is their smallest and largest."""
    added_mb = []
    with (
        tempfile.TemporaryDirectory(prefix="mtnas-") as folder,
        (progress or Silent()).task("memory", config.processes) as bar,
    ):
        base, path = Path(folder) / "empty.onnx", Path(folder) / "model.onnx"
        base.write_bytes(empty_model())
        if isinstance(model, bytes):
            path.write_bytes(model)
        models = {"empty": str(base), "model": str(path if isinstance(model, bytes) else model.resolve())}
        settings = {"runtime": config.runtime, "threads": config.threads, "spinning": config.spinning}
        for _ in range(config.processes):
            records = run_job({"kind": "memory", "models": models, "seed": config.seed, **settings})
            found = events(records, "memory")["model"]
            added_mb.append(max(0.0, found["peak_mb"] - found["base_mb"]))
            bar.advance()
    return Measured(
        float(np.median(added_mb)), min(added_mb), max(added_mb), "mb", len(added_mb), "peak", config.device
    )
