"""Pick another trade-off from a finished search, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import JobError
from mtnas.stages.folder import RunFolder
from mtnas.stages.network_text import arch_lines, cost_lines, score_line, told

if TYPE_CHECKING:
    from mtnas.space.arch import Arch
    from mtnas.stages.context import RunContext


@dataclass(frozen=True)
class PickRequest:
    """What the user asks of the front."""

    budget: dict[str, float | str] = field(default_factory=dict)
    preference: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float | str] = field(default_factory=dict)

    @staticmethod
    def parse(
        latency_ms: float | None, prefer: Sequence[str], floors: Sequence[str], limits: Sequence[str] = ()
    ) -> PickRequest:
        """Read `task=value` pairs, and `limit=value` ones; raises `JobError` on anything else."""
        budget = limits_of(limits)
        if latency_ms is not None:
            budget["latency_ms"] = latency_ms
        weights = {name: _number(value, "--prefer") for name, value in (_pair(text, "--prefer") for text in prefer)}
        return PickRequest(budget, weights, dict(_pair(text, "--floor") for text in floors))


def limits_of(texts: Sequence[str]) -> dict[str, float | str]:
    """Limits by name from `limit=value` pairs; raises `JobError` on anything else."""
    return dict(_pair(text, "--budget", "macs=50%") for text in texts)


def _pair(text: str, where: str, example: str = "segmentation=2") -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        what = "limit=value" if where == "--budget" else "task=value"
        raise JobError(what, received=repr(text), where=where, cure=f"for example {example}")
    return name, value


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise JobError("a number", received=repr(text), where=where) from error


def pick_from_run(
    path: Path, request: PickRequest, export: Path | None, tasks: Sequence[str] | None = None
) -> dict[str, Any]:
    """The picked network's record; writes it as ONNX when `export` is given, for these tasks alone when some are."""
    if tasks is not None and export is None:
        raise JobError("a file for these tasks", received="no --export", where="--tasks", cure="add --export FILE.onnx")
    from mtnas.search.front import Front

    run = RunFolder(path)
    front = Front.load(run.stage("search") / "front.json")
    trial = front.pick(request.budget, request.preference, request.floors)
    scored = [objective for objective in front.objectives if objective.name in front.tasks]
    record: dict[str, Any] = {"schema": "pick/1", **trial.to_json(), **told(run, trial.arch, scored)}
    if export is not None:
        record["onnx"] = str(_export(path, trial.arch.to_json(), export, tasks))
    return record


def _export(path: Path, arch: dict[str, Any], target: Path, tasks: Sequence[str] | None) -> Path:
    """Write the picked network; refuses a job that was changed since the search."""
    from mtnas.job.read import read_job
    from mtnas.space.arch import Arch
    from mtnas.stages.context import RunContext
    from mtnas.stages.inputs import inputs_hash

    context = RunContext(read_job(path / "job.resolved.yaml"), path)
    if not context.run.finished("search", inputs_hash(context, "search")):
        raise JobError(
            "a search that belongs to the job in this folder",
            received="a job that was changed since",
            where=str(path),
            cure="finish the run with the changed job, or run the old job again, then pick",
        )
    return export_arch(context, Arch.from_json(arch), target, tasks)


def export_arch(context: RunContext, arch: Arch, target: Path, tasks: Sequence[str] | None = None) -> Path:
    """Cut a network from the supernet of a run, statistics re-estimated, and write it as ONNX; of some tasks alone."""
    from mtnas.export.onnx_file import write_onnx
    from mtnas.graph.subset import keep_outputs
    from mtnas.stages.network import Network
    from mtnas.stages.subset import check_routing

    if tasks is not None:
        check_routing(context.job.model)
    elastic = context.trained
    network = Network.of_elastic("picked", elastic.selection(arch), elastic)
    model = network.onnx(context.graph)
    return write_onnx(model if tasks is None else keep_outputs(model, tasks), target)


def pick_text(record: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"network {record['id']} of the front", *cost_lines(record["costs"], {})]
    lines += [score_line(record, row["name"], record["objectives"][row["name"]]) for row in record["scored"]]
    lines += arch_lines(record)
    if "onnx" in record:
        lines.append(f"wrote {record['onnx']} (not fine-tuned, not certified: mtnas certify FILE --latency-ms ...)")
    return "\n".join(lines)
