"""Cost where it arises, for a stage: the parts of one network measured on the run's device, kept as JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from mtnas.base.files import write_json
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device
from mtnas.stages.context import RunContext


def write_parts(context: RunContext, model: bytes, path: Path) -> None:
    """Measure once; a file that is there already belongs to the same network and stays."""
    from mtnas.measure.parts import measure_parts

    if path.exists():
        return
    device = matching_device(context.job.device)
    costs = measure_parts(
        onnx.load_model_from_string(model),
        shortened(context.job.device),
        memory="memory_mb" in device.limits,
        progress=context.progress,
    )
    write_json(path, costs.to_json())


def shortened(config: MeasureConfig) -> MeasureConfig:
    """Seconds for all subsets: many networks tell about each part, so each needs fewer rounds."""
    rounds = min(config.rounds, 8)
    return replace(
        config,
        rounds=rounds,
        max_rounds=max(rounds, min(config.max_rounds, 16)),
        round_ms=min(config.round_ms, 4.0),
        round_runs=min(config.round_runs, 5),
        warmup_ms=min(config.warmup_ms, 20.0),
    )
