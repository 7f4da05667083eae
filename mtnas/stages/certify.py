"""Stage 9: the certificate: exactly the delivered file against the budget, measured in fresh processes.

The stage and the verb `certify` share everything but the place of the verdict: the stage's certificate is the run's,
the verb only adds one more attempt to `certificates.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import CheckpointError
from mtnas.base.files import write_json
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress
from mtnas.base.quantity import Counted
from mtnas.stages.context import RunContext
from mtnas.stages.costs import counted_costs
from mtnas.stages.int8_profile import predicted_delivered
from mtnas.stages.network import Network

if TYPE_CHECKING:
    from mtnas.measure.certify import Certificate
    from mtnas.measure.config import MeasureConfig

ATTEMPTS = "certificates.jsonl"
COUNTED = ("macs", "params")


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `certificate.json`, with a copy in verify's folder; a missed budget is told by the caller.

    `certificates.jsonl` keeps every attempt.
    """
    record = certified(context).to_json()
    write_json(folder / "certificate.json", record)
    write_json(context.run.stage("verify") / "certificate.json", record)
    Journal(folder / ATTEMPTS).append(record)
    return record


def certify_run(path: Path, config: MeasureConfig | None = None, progress: Progress | None = None) -> Certificate:
    """The delivered file of a run against the run's budget, once more; the run stays as it is.

    Args:
        path: folder of a run that has exported its file.
        config: how to measure where that differs from the job, such as another device.
        progress: where to report.
    """
    from mtnas.job.read import read_job

    if not (path / "job.resolved.yaml").is_file():
        raise CheckpointError("the folder of a run", received="no job.resolved.yaml", where=str(path))
    job = read_job(path / "job.resolved.yaml")
    context = RunContext(replace(job, device=config) if config else job, path, progress)
    certificate = certified(context, same_device=config is None)
    Journal(context.run.stage("certify") / ATTEMPTS).append(certificate.to_json())
    return certificate


def certified(context: RunContext, *, same_device: bool = True) -> Certificate:
    """Measure the delivered file against the job's limits; percents are of the full network, measured just now.

    Args:
        context: the run.
        same_device: whether the run's profile was made where the certificate is.
    """
    from mtnas.measure.certify import certify

    job, run = context.job, context.run
    delivered = Network.load(run.stage("prune"), "delivered").selection
    bounds = job.budget.resolve(full_network(context))
    certificate = certify(
        run.stage("export") / "model.onnx",
        {name: bound for name, bound in bounds.items() if name not in COUNTED},
        job.device,
        processes=job.device.processes,
        predicted=predicted_delivered(context, delivered) if same_device else None,
        progress=context.progress,
    )
    counted = counted_costs(context, delivered)
    for name in COUNTED:
        if name in bounds:
            certificate = certificate.with_counted(name, bounds[name], Counted(counted[name].value, name))
    return certificate


def full_network(context: RunContext) -> dict[str, float]:
    """Costs of the unpruned network for the limits that are a percent of it; measured now, where they are measured."""
    from mtnas.measure.energy import energy
    from mtnas.measure.memory import peak_memory
    from mtnas.measure.protocol import measure

    relative = {limit.name for limit in context.job.budget.limits if limit.percent}
    everything, device = Selection.of({}), context.job.device
    costs = {name: cost.value for name, cost in counted_costs(context, everything).items()}
    if "latency_ms" in relative:
        record = measure({"full": context.cut(everything)}, device, progress=context.progress)["full"]
        costs["latency_ms"] = record.statistic(device.statistic).value
    if "memory_mb" in relative:
        costs["memory_mb"] = peak_memory(context.cut(everything), device, progress=context.progress).value
    if "energy_mj" in relative:
        costs["energy_mj"] = energy(context.cut(everything), device, progress=context.progress).value
    return costs


def certificate_text(certificate: Mapping[str, Any]) -> list[str]:
    """A certificate as lines for people."""
    word = "MET" if certificate["met"] else "REFUSED" if certificate.get("refused") else "MISSED"
    lines = [f"certificate: {word} on {certificate['device']} ({certificate['processes']} fresh processes)"]
    for limit in certificate["limits"]:
        lines.append(f"  {limit['name']}: {limit['text']}")
        if limit.get("predicted"):
            low, high = limit["predicted"]["low"], limit["predicted"]["high"]
            lines.append(f"    predicted: {limit['predicted']['value']:.3f} ms ({low:.3f} to {high:.3f})")
    lines.append(f"  A/A resolution {certificate['aa_resolution_percent']:.1f} %")
    return lines
