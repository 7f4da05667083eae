"""What a job would do, in seconds: nothing is trained, nothing is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtnas.base.errors import Infeasible
from mtnas.base.progress import Progress
from mtnas.job.schema import Job
from mtnas.score.config import REFERENCES
from mtnas.stages import space
from mtnas.stages.context import RunContext
from mtnas.stages.costs import check_saved_budget
from mtnas.stages.estimate import duration, seconds_by_stage
from mtnas.stages.folder import FOLDERS
from mtnas.stages.preflight import preflight, preflight_labels
from mtnas.stages.savings import advice, told
from mtnas.stages.steps import delivered_precisions, stated_step

if TYPE_CHECKING:
    from mtnas.train.cost import StepCost


def plan_job(job: Job, progress: Progress) -> dict[str, Any]:
    """Space size, what will be run, and whether the smallest network keeps the limits."""
    from mtnas.train.cost import step_cost
    from mtnas.train.start import start_from

    preflight(job, tuple(FOLDERS))
    with tempfile.TemporaryDirectory(prefix="mtnas-plan-") as scratch:
        context = RunContext(job, Path(scratch), progress)
        context.width_step = stated_step(job)  # a plan does not probe
        preflight_labels(context)
        sizes = context.dataset.info.sizes
        folder = context.run.begin("space", "plan")
        space.run(context, folder)
        record = context.run.result("space", "space.json")
        if job.train.start:  # the file is this network's, or the plan says what differs
            progress.note(f"train: {start_from(context.elastic, job.train)}")
        verdict = ""
        try:
            check_saved_budget(context)
        except Infeasible as error:
            verdict = str(error)
        choices = len(context.elastic.space.choices)
        hint = advice(record["savings"], [limit.name for limit in job.budget.limits], context.elastic.space)
        cost = step_cost(context.elastic, job.train)
        seconds, step = seconds_by_stage(context, record, cost.ratio), context.width_step
        tasks = len(context.elastic.tasks)
        precisions = " and ".join(delivered_precisions(context))
    steps = job.train.round * max(1, sizes["train"] // job.train.batch_size)  # a batch is at most the whole split
    return {
        "schema": "plan/1",
        "job": job.name,
        "feasible": not verdict,
        "infeasible_because": verdict,
        "choices": choices,
        "log10_size": record["log10_size"],
        "input_sizes": {row["size"]: row["refused"] for row in record["input_sizes"]},
        "savings": record["savings"],
        "advice": hint,
        "frozen": {g["name"]: g["frozen"] for g in record["groups"] if g["frozen"]},
        "largest": record["largest"],
        "smallest": record["smallest"],
        "latency_ms": {name: row["latency_ms"] for name, row in record["quick_costs"].items()},
        "images": dict(sizes),
        "seconds": seconds,
        "stages": {
            "space": f"width steps of {job.device.device} are probed in {precisions}"
            if job.space.round_to == "probe"
            else f"widths are multiples of {step}",
            "train": f"{job.train.epochs} epochs, {steps} steps each, {_step(cost)}",
            "profile": f"{job.device.samples} sub-networks at most, and each part's cost, on {job.device.device}",
            "search": f"{job.search.trials} networks with {job.search.strategy}, a random line beside it",
            "prune": f"to {job.prune.target} of the chosen network's latency" if job.prune.enabled else "off",
            "finetune": f"{job.finetune.epochs} epochs",
            "quantize": _quantizing(job),
            "verify": "every head of the exported file, and what each part of it costs",
            "certify": f"the delivered file in {job.device.processes} fresh processes, bound on {job.device.statistic}",
            "references": _references(job, tasks),
        },
    }


def _step(cost: StepCost) -> str:
    """Networks of a training step, and what they compute beside a plain network."""
    networks = "one network" if cost.networks == 1 else f"about {cost.networks:.0f} networks"
    return f"{networks} a step, {cost.ratio:.2f} times a plain network's multiply-adds"


def _references(job: Job, tasks: int) -> str:
    references = job.references
    if references.mode != "train":
        return REFERENCES[references.mode]
    return f"{tasks} single-task networks, {references.epochs or job.train.epochs} epochs each where not cached"


def _quantizing(job: Job) -> str:
    if not job.quantize.enabled:
        return "off"
    copies = job.device.int8_samples
    return job.quantize.dialect + (f", {copies} int8 copies measured where the profile is of float32" if copies else "")


def plan_text(plan: dict[str, Any]) -> str:
    """The same for people."""
    latency = {name: cost["value"] for name, cost in plan["latency_ms"].items()}
    lines = [
        f"job {plan['job']}: {plan['choices']} choices, 10^{plan['log10_size']:.1f} networks",
        f"  largest  {plan['largest']['macs'] / 1e6:.1f} MMACs, {plan['largest']['params'] / 1e6:.3f} M parameters, "
        f"{latency['largest']:.3f} ms measured",
        f"  smallest {plan['smallest']['macs'] / 1e6:.1f} MMACs, {plan['smallest']['params'] / 1e6:.3f} M parameters, "
        f"{latency['smallest']:.3f} ms measured",
        f"  saves    {told(plan['savings'])}",
        f"  images   {', '.join(f'{name} {count}' for name, count in plan['images'].items())}",
    ]
    times = {name: f" (about {duration(seconds)})" for name, seconds in plan["seconds"].items() if seconds}
    lines += [f"  {name:<10} {text}{times.get(name, '')}" for name, text in plan["stages"].items()]
    lines.append(f"  in all about {duration(plan['seconds']['total'])}")
    lines += [f"  frozen   {name}: {reason}" for name, reason in plan["frozen"].items()]
    lines += [f"  input    {size}: {reason or 'an option'}" for size, reason in plan["input_sizes"].items()][:-1]
    if plan["advice"]:
        lines.append(f"  advice   {plan['advice']}")
    lines.append("  the limits can be kept" if plan["feasible"] else f"  INFEASIBLE {plan['infeasible_because']}")
    return "\n".join(lines)
