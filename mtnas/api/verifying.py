"""`mtnas.verify`: an exported file against the network it was made from, its floors and its budget."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor, nn

from mtnas.api.data import Tasks, make_tasks, some_images
from mtnas.api.exporting import FLOAT, Exported
from mtnas.api.measuring import Bench, bench_settings
from mtnas.api.profiling import DeviceProfile
from mtnas.base.budget import Budget, Floor
from mtnas.base.errors import BudgetMissed, JobError
from mtnas.base.groups import Selection
from mtnas.base.progress import Progress
from mtnas.base.quantity import Counted
from mtnas.data.base import Dataset
from mtnas.export.manifest import Manifest
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.measure.certify import Certificate, certify
from mtnas.measure.config import MeasureConfig
from mtnas.measure.energy import energy
from mtnas.measure.memory import peak_memory
from mtnas.measure.protocol import measure
from mtnas.score.score import score
from mtnas.stages.costs import counted_costs_of
from mtnas.tasks.base import Task
from mtnas.verify import verify as room
from mtnas.verify.config import VerifyConfig
from mtnas.verify.verify import Primary, ScoreForward, Subject, VerifyResult


@dataclass(frozen=True)
class Verified:
    """The verdict on an exported file: `heads` one by one, and the budget's certificate when there was a budget."""

    heads: VerifyResult
    certificate: Certificate | None

    @property
    def passed(self) -> bool:
        """Every head is as trained and above its floor."""
        return self.heads.passed

    @property
    def met(self) -> bool:
        """Passed, and every limit is kept by the file as measured in fresh processes."""
        return self.passed and (self.certificate is None or self.certificate.met)

    def require(self) -> None:
        """Raise `VerificationFailed`, `FloorMissed` or `BudgetMissed` unless all is well."""
        self.heads.require()
        if self.certificate is not None and not self.certificate.met:
            raise BudgetMissed(
                "a file within the budget",
                received=self.certificate.text,
                where="verify",
                cure="relax the budget, prune further, or stop other work on this machine when it refused to decide",
            )

    def to_json(self) -> dict[str, Any]:
        certificate = self.certificate.to_json() if self.certificate else None
        return {**self.heads.to_json(), "certificate": certificate, "met": self.met}

    def __str__(self) -> str:
        told = [f"{head.task}: {'ok' if head.ok else '; '.join(head.problems)}" for head in self.heads.heads]
        return "\n".join(told + ([self.certificate.text] if self.certificate else []))


def verify(
    exported: Exported | str | Path,
    model: nn.Module,
    images: Tensor | None = None,
    *,
    tasks: Tasks = None,
    data: Dataset | None = None,
    split: str = "report",
    floors: Mapping[str, float | int | str] | None = None,
    budget: Mapping[str, float | int | str] | None = None,
    profile: DeviceProfile | str = "local-ort",
    config: VerifyConfig | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Check every head of an exported file, and certify a budget by measuring exactly that file.

    Args:
        exported: from `mtnas.export`, or its folder: file and `manifest.json`.
        model: the trained network the file was made from.
        images: normalised images (B,C,H,W) of the numeric comparison; by default the first of `split`.
        tasks, data: score every task with torch, with the float file and with the delivered one.
        split: which part of the data; `report` is otherwise never read.
        floors: the worst score of a task, absolute or relative to `model`'s on this split.
        budget: limits on the file: `latency_ms`, `size_mb`, `memory_mb`, absolute or, with a profile, a percent of
            the unpruned network, which is measured again beside it.
        profile: from `mtnas.profile`, or a device's name.
        config: tolerances.
        progress: shows bars.

    Returns:
        `.passed`, `.met`, `.heads`, `.certificate`; `.require()` raises when something is wrong.

    Raises:
        VerificationFailed: the file is not what its manifest describes, or its outputs are named or shaped otherwise.
        JobError: neither images nor data, floors without data, or percent limits without a profile.
    """
    folder = _folder(exported)
    model = copy.deepcopy(model).eval() if model.training else model
    if images is None and data is None:
        raise JobError("images= or data=", received="neither", where="verify")
    image_BCHW = images if images is not None else some_images(data, split, (config or VerifyConfig()).images)  # type: ignore[arg-type]
    outputs = tuple(output.task for output in Manifest.load(folder / "manifest.json").outputs)
    found = make_tasks(tasks, data, outputs) if data is not None else {}
    scored = _score(found, data, split, progress)
    primaries = _primaries(found, floors or {}, scored, model)
    subject = Subject(folder, _float_model(folder), model, image_BCHW, primaries, split if data else "images")
    heads = room.verify(subject, scored, config)
    certificate = _certified(folder, model, Budget.parse(budget), profile, progress) if budget else None
    return Verified(heads, certificate)


def _folder(exported: Exported | str | Path) -> Path:
    path = exported.path if isinstance(exported, Exported) else Path(exported)
    return path.parent if path.suffix == ".onnx" else path


def _float_model(folder: Path) -> Path:
    manifest = Manifest.load(folder / "manifest.json")
    return folder / (FLOAT if manifest.precision == "int8" else manifest.file)


def _score(tasks: dict[str, Task], data: Dataset | None, split: str, progress: Progress | None) -> ScoreForward | None:
    if data is None:
        return None
    return lambda forward: score(forward, tasks, data.split(split), progress=progress)


def _primaries(
    tasks: dict[str, Task],
    floors: Mapping[str, float | int | str],
    scored: ScoreForward | None,
    model: nn.Module,
) -> dict[str, Primary]:
    unknown = [name for name in floors if name not in tasks]
    if unknown:
        raise JobError("floors of scored tasks", received=str(unknown), where="floors", cure="give data= and tasks=")
    before = scored(lambda image_BCHW: dict(model(image_BCHW))) if floors and scored else {}
    found = {}
    for name, task in tasks.items():
        metric, bound = task.primary, None
        if name in floors:
            bound = Floor.parse(name, floors[name]).bound(before[name][metric.name], metric.higher_is_better)
        found[name] = Primary(metric.name, metric.higher_is_better, bound)
    return found


def _certified(
    folder: Path, model: nn.Module, budget: Budget, profile: DeviceProfile | str, progress: Progress | None
) -> Certificate:
    """The delivered file in fresh processes; percents refer to the unpruned network, measured now."""
    config = bench_settings(profile)
    full = _full(profile.graph, budget, config, progress) if isinstance(profile, DeviceProfile) else {}
    bounds = budget.resolve(full)
    counted = {name: bounds.pop(name) for name in ("macs", "params") if name in bounds}
    path = folder / Manifest.load(folder / "manifest.json").file
    certificate = certify(path, bounds, config, processes=config.processes, progress=progress)
    if counted:
        macs = count_model(onnx.load_model(str(_float_model(folder)))).macs
        counts = {"macs": float(macs), "params": float(sum(p.numel() for p in model.parameters()))}
        for name, bound in counted.items():
            certificate = certificate.with_counted(name, bound, Counted(counts[name], name))
    return certificate


def _full(graph: ElasticGraph, budget: Budget, config: MeasureConfig, progress: Progress | None) -> dict[str, float]:
    """The unpruned network's costs, for percent limits."""
    relative = {limit.name for limit in budget.limits if limit.percent}
    if not relative:
        return {}
    everything = Selection(())
    costs = {name: cost.value for name, cost in counted_costs_of(graph, everything).items()}
    model = Bench(graph, config).cut(everything)
    if "latency_ms" in relative:
        record = measure({"full": model}, config, progress=progress)["full"]
        costs["latency_ms"] = record.statistic(config.statistic).value
    if "memory_mb" in relative:
        costs["memory_mb"] = peak_memory(model, config, progress=progress).value
    if "energy_mj" in relative:
        costs["energy_mj"] = energy(model, config, progress=progress).value
    return costs
