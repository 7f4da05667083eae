"""`mtnas.costs` and `mtnas.width_steps`: where a network's cost arises on a device, and which widths pay there."""

from __future__ import annotations

from pathlib import Path

import onnx

from mtnas.api.given import device_config
from mtnas.base.errors import CheckpointError
from mtnas.base.progress import Progress
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device
from mtnas.measure.part_costs import PartCosts
from mtnas.measure.parts import measure_parts
from mtnas.measure.probe_networks import DEFAULT_KINDS
from mtnas.measure.width_steps import WidthSteps, probe_steps
from mtnas.quantize.timing import timing_copy


def costs(
    model: onnx.ModelProto | str | Path,
    *,
    device: str = "local-ort",
    config: MeasureConfig | None = None,
    progress: Progress | None = None,
) -> PartCosts:
    """Measure what the shared encoder, each decoder and the glue of a network cost, and every subset of its tasks.

    Args:
        model: an ONNX network with one output per task, or its file; float or int8.
        device: a folder in `hardware_profiles/`, or a path to such a folder.
        config: the measuring protocol; it names the device itself, and `device` is then not read.
        progress: shows a bar.

    Returns:
        `.parts` (milliseconds, multiply-adds, bytes, peak memory of each), `.error_percent` (how far sums of parts are
        from what was measured), `.latency(["depth", "edges"])`, `.to_json()`.

    Raises:
        CheckpointError: there is no such file.
        DeviceMissing: the device cannot be reached, or its runtime is missing.
    """
    settings = device_config(device, config)
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.is_file():
            raise CheckpointError("an ONNX file", received="no file", where=str(path), cure="export one first")
        model = onnx.load(str(path))
    memory = "memory_mb" in matching_device(settings).limits
    return measure_parts(model, settings, memory=memory, progress=progress)


def width_steps(
    *,
    device: str = "local-ort",
    kinds: tuple[str, ...] = DEFAULT_KINDS,
    config: MeasureConfig | None = None,
    progress: Progress | None = None,
) -> WidthSteps:
    """Find what widths should be multiples of on a device, in float32 and in int8, from a measurement of seconds.

    Args:
        device: a folder in `hardware_profiles/`, or a path to such a folder.
        kinds: kinds of layers: `conv3x3`, `conv1x1`, `depthwise3x3`.
        config: the measuring protocol; it names the device itself, and `device` is then not read.
        progress: shows a bar.

    Returns:
        `.steps` (None for a precision whose curves are too noisy), `.curves` with the evidence, `.to_json()`.

    Raises:
        JobError: an unknown device or kind of layer.
        DeviceMissing: the device cannot be reached, or its runtime is missing.
    """
    settings = device_config(device, config)
    dialect = matching_device(settings).dialect
    return probe_steps(settings, lambda model: timing_copy(model, dialect), kinds=kinds, progress=progress)
