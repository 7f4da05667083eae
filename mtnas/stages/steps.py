"""Which step the widths of a run move in: as the job says, as the device states, or as a probe finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtnas.base.files import read_json, write_json
from mtnas.job.schema import Job
from mtnas.measure.devices import matching_device
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    from mtnas.measure.width_steps import WidthSteps

STAIRS = "stairs.json"


def width_step(context: RunContext) -> int:
    """Widths are multiples of this; the device's own step stands in for a probe whose result is in doubt.

    A run whose space is drawn keeps its step, whatever later stages are told to do.
    """
    drawn = context.run.stage("space") / "space.json"
    known = read_json(drawn).get("width_step") if drawn.exists() else None
    if known:
        return int(known["step"])
    stated = stated_step(context.job)
    if context.job.space.round_to != "probe":
        return stated
    found = probed(context, context.run.stage("space") / STAIRS).step(delivered_precisions(context))
    if found is None:
        context.progress.note(f"width steps: the probe is in doubt, the device's step of {stated} holds")
    return found or stated


def stated_step(job: Job) -> int:
    """The step without measuring: the job's number, else the device's."""
    asked = job.space.round_to
    return asked if isinstance(asked, int) else matching_device(job.device).round_to


def step_inputs(context: RunContext) -> list[str]:
    """What the step depends on beside the job's `space`: the device's own step, or what a probe would measure."""
    stated = str(stated_step(context.job))
    if context.job.space.round_to != "probe":
        return [stated]
    return [stated, context.job.device.device, *delivered_precisions(context)]


def delivered_precisions(context: RunContext) -> tuple[str, ...]:
    """What the delivered file may be: a gate decides between float32 and int8 late, so widths must suit both."""
    if context.precision == "int8":
        return ("int8",)
    return ("float32", "int8") if context.job.quantize.enabled else ("float32",)


def probed(context: RunContext, path: Path) -> WidthSteps:
    """The stairs that this run has measured; measured now when it has not, then kept: a run never changes its mind."""
    from mtnas.measure.width_steps import WidthSteps, probe_steps
    from mtnas.quantize.timing import timing_copy

    if path.exists():
        return WidthSteps.from_json(read_json(path))
    dialect = matching_device(context.job.device).dialect
    int8 = "int8" in delivered_precisions(context)
    steps = probe_steps(
        context.job.device,
        (lambda model: timing_copy(model, dialect)) if int8 else None,
        kinds=kinds_of_layers(context),
        progress=context.progress,
    )
    write_json(path, steps.to_json())
    return steps


def kinds_of_layers(context: RunContext) -> tuple[str, ...]:
    """Kinds of layers to probe: depthwise convolutions only where the network has them."""
    from torch import nn

    from mtnas.measure.probe_networks import DEFAULT_KINDS

    layers = [layer for layer in context.plain_model.modules() if isinstance(layer, nn.Conv2d)]
    depthwise = any(layer.groups == layer.in_channels > 1 for layer in layers)
    return (*DEFAULT_KINDS, "depthwise3x3") if depthwise else DEFAULT_KINDS
