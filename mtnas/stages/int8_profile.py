"""What a device makes of int8, for a run whose profile is of float32: a few timing copies with their own predictor.

They are built like the int8 file that is delivered, with the same parts kept in float, so that a certificate can show
what was predicted for it. The delivered network itself is not among them unless the pool happens to hold it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtnas.base.groups import Selection
from mtnas.base.quantity import Predicted
from mtnas.stages.context import RunContext
from mtnas.stages.evaluate import predicted_latency
from mtnas.stages.profile import pool

if TYPE_CHECKING:
    from mtnas.quantize.config import QuantizeConfig

FOLDER = "device-int8"


def measure_int8(context: RunContext, config: QuantizeConfig, folder: Path) -> None:
    """Write `device-int8/` into a stage's folder, where the job wants it and the run's profile is of float32.

    Args:
        context: the run.
        config: what the delivered int8 file was made with.
        folder: of the stage.
    """
    from mtnas.measure.profile import build_profile
    from mtnas.quantize.timing import precise_cut

    device = context.job.device
    if not device.int8_samples or context.precision == "int8":
        return
    build_profile(
        precise_cut(context.graph.cut, "int8", config),
        context.graph.features,
        pool(context),
        replace(device, precision="int8", samples=device.int8_samples, cost_samples=0),
        folder / FOLDER,
        names=context.graph.feature_names,
        progress=context.progress,
    )


def predicted_delivered(context: RunContext, selection: Selection) -> Predicted | None:
    """The latency that is predicted for the delivered file; None where nothing of its precision was profiled."""
    from mtnas.measure.profile import load_profile

    record = context.run.result("quantize", "quantize.json")
    if record["delivered"] == "float":
        return predicted_latency(context, selection) if context.precision == "float32" else None
    if context.precision == "int8":
        settings = context.job.quantize
        kept = (record["float_heads"], record["float_branches"])
        as_profiled = kept == (list(settings.float_heads), list(settings.float_branches))
        return predicted_latency(context, selection) if as_profiled else None
    folder = context.run.stage("quantize") / FOLDER
    if not (folder / "predictor.json").is_file():
        return None
    profile = load_profile(folder, replace(context.job.device, precision="int8"))
    return predicted_latency(context, selection, profile)
