"""`mtnas.certify`: any ONNX file, or the delivered file of a run, against a budget, measured in fresh processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from mtnas.api.given import device_config
from mtnas.base.budget import Budget
from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.progress import Progress
from mtnas.base.quantity import Counted
from mtnas.graph.count_model import count_model
from mtnas.job.read import read_job
from mtnas.measure import certify as room
from mtnas.measure.certify import Certificate
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device
from mtnas.stages.certify import COUNTED, certify_run
from mtnas.stages.folder import RunFolder

DEVICE = "local-ort"


def certify(
    path: str | Path,
    budget: Mapping[str, float | int | str] | None = None,
    *,
    device: str | None = None,
    statistic: str | None = None,
    processes: int | None = None,
    config: MeasureConfig | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Measure exactly this file against limits, in fresh processes; a missed limit is told, not raised.

    A run's delivered file is judged by the run's own budget, and the attempt is added to its `certificates.jsonl`;
    nothing else in the run changes. With `budget=` the file is judged by that, and nothing is written.

    Args:
        path: an ONNX file, or the folder of a run.
        budget: absolute limits: `{"latency_ms": 8.0, "memory_mb": 20, "size_mb": 2, "macs": 5e7}`.
        device: where to measure; the run's own device, else `local-ort`.
        statistic: what a latency limit bounds, such as `p50` or `p95`; the run's own choice, else p50.
        processes: number of fresh processes.
        config: the measuring protocol; it names the device itself, and `device` is then not read.
        progress: shows a bar.

    Returns:
        `.met`, `.refused` (the machine was too unquiet to decide), `.limits`, `.to_json()`.

    Raises:
        JobError: no limits for a file, limits in percent, or unknown ones.
        CheckpointError: no such file, or a folder without a delivered file.
        DeviceMissing: the device cannot be reached, or cannot measure what is limited.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError("an ONNX file or the folder of a run", received="nothing", where=str(path))
    settings = config or _settings(path, device, statistic, processes)
    if path.is_dir():
        if not budget:
            return certify_run(path, None if settings == _job_settings(path) else settings, progress)
        path = RunFolder(path).stage("export") / "model.onnx"
    return _certify_file(path, budget or {}, settings, progress)


def _settings(path: Path, device: str | None, statistic: str | None, processes: int | None) -> MeasureConfig:
    """The run's protocol or the usual one, with what was asked for."""
    if path.is_dir() and device is None:
        found = _job_settings(path)
    else:
        found = device_config(device or DEVICE)
    return replace(found, statistic=statistic or found.statistic, processes=processes or found.processes)


def _job_settings(run: Path) -> MeasureConfig:
    job = run / "job.resolved.yaml"
    if not job.is_file():
        raise CheckpointError("the folder of a run", received="a folder without job.resolved.yaml", where=str(run))
    return read_job(job).device


def _certify_file(
    path: Path, limits: Mapping[str, float | int | str], config: MeasureConfig, progress: Progress | None
) -> Certificate:
    if not limits:
        raise JobError(
            "at least one limit for an ONNX file",
            received="none",
            where=str(path),
            cure="--latency-ms, --memory-mb, --size-mb or --energy-mj; in Python budget={'latency_ms': 8.0}",
        )
    budget = Budget.parse(limits)
    relative = [limit.name for limit in budget.limits if limit.percent]
    if relative:
        raise JobError("absolute limits for a file", received=f"a percent for {relative[0]}", where="budget")
    bounds = budget.resolve({})
    counted = {name: bounds.pop(name) for name in COUNTED if name in bounds}
    matching_device(config)
    certificate = room.certify(path, bounds, config, processes=config.processes, progress=progress)
    if counted:
        counts = count_model(onnx.load_model(str(path)))
        found = {"macs": float(counts.macs), "params": float(counts.weights)}
        for name, bound in counted.items():
            certificate = certificate.with_counted(name, bound, Counted(found[name], name))
    return certificate
