"""From budget and preference to a network of a trained elastic model: what the search needs, and the verb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.base.quantity import Measured
from mtnas.job.read import read_job
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Configured, Subject, Wish, configure
from mtnas.search.evaluations import Evaluations
from mtnas.search.objectives import Objective
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.costs import Cost, counted_costs
from mtnas.stages.evaluate import predicted_latency
from mtnas.stages.folder import RunFolder
from mtnas.stages.inputs import inputs_hash
from mtnas.stages.network_text import arch_lines, cost_lines, score_line, told
from mtnas.stages.pick import export_arch
from mtnas.stages.scoring import score_selection
from mtnas.stages.some_tasks import for_tasks, open_space

JOURNAL = "evaluations.jsonl"


def subject_of(context: RunContext, evaluations: Evaluations, *, full_latency: Measured | None) -> Subject:
    """Space, tasks, costs and scores of a run.

    Args:
        context: its elastic model is trained.
        evaluations: on the select split.
        full_latency: of the unpruned network, as measured, to which percents refer; the others' are predicted by the
            run's profile. None: there is no profile, costs are counted only.
    """
    elastic = context.trained

    def costs(arch: Arch) -> Mapping[str, Cost]:
        selection = elastic.selection(arch)
        found = counted_costs(context, selection)
        if full_latency is None:
            return found
        full: dict[str, Cost] = {"latency_ms": full_latency} if selection == Selection.of({}) else {}
        return {**found, **_predicted(context, selection), **full}

    return Subject(open_space(elastic.space, context.tasks), task_objectives(context), costs, evaluations)


def _predicted(context: RunContext, selection: Selection) -> dict[str, Cost]:
    """Latency, and memory and energy where the profile has measured them."""
    features_NF = context.graph.features(selection)[None, :]
    others = {name: context.profile.predict_cost(name, features_NF)[0] for name in context.profile.costs}
    return {**others, "latency_ms": predicted_latency(context, selection)}


def task_objectives(context: RunContext) -> tuple[Objective, ...]:
    """Each task's primary metric, in the job's order."""
    return tuple(Objective(n, t.primary.unit, t.primary.higher_is_better) for n, t in context.tasks.items())


def headline(context: RunContext, arch: Arch, split: str = "select") -> dict[str, float]:
    """Each task's primary metric of a sub-network, batch-norm statistics re-estimated."""
    limit = context.job.score.select_images if split == "select" else None
    scores = score_selection(context, context.trained.selection(arch), split=split, limit=limit)
    return {name: scores[name][task.primary.name] for name, task in context.tasks.items()}


def evaluations_of(
    context: RunContext, identity: Mapping[str, Any], journal: Path | None = None, *, split: str = "select"
) -> Evaluations:
    """Scores of sub-networks on one split, by network: archs that differ in skipped blocks alone are one.

    Args:
        context: its elastic model is trained.
        identity: what tells the trained network from others, as JSON.
        journal: where scores are kept; None: in memory.
        split: `select` or `report`.
    """
    known = {**identity, "score": asdict(context.job.score), "split": split}
    elastic = context.trained
    return Evaluations(
        lambda arch: headline(context, arch, split), journal, known, lambda arch: elastic.selection(arch).id
    )


# --- a finished run -------------------------------------------------------------------------------------------


def finished_context(path: Path, progress: Any = None) -> RunContext:
    """The context of a run whose search belongs to the job in its folder; raises `JobError` when it does not."""
    context = RunContext(read_job(path / "job.resolved.yaml"), path, progress)
    if not context.run.finished("search", inputs_hash(context, "search")):
        raise JobError(
            "a search that belongs to the job in this folder",
            received="a search that is not finished, or a job that was changed since",
            where=str(path),
            cure="finish the run with that job, then configure",
        )
    return context


def run_identity(context: RunContext, part: RunContext) -> dict[str, Any]:
    """What tells the trained network of a run from others; and the tasks that are asked for, where they are some."""
    return {
        "space": context.trained.space.id,
        "train": context.run.result_hash("train"),
        "data": context.data_fingerprint,
        **({} if part is context else {"tasks": list(part.tasks)}),
    }


def run_subject(context: RunContext, identity: Mapping[str, Any]) -> Subject:
    """The subject of a finished run, or of some of its tasks; scores are kept beside its search."""
    evaluations = evaluations_of(context, identity, context.run.stage("search") / JOURNAL)
    full = context.profile.extreme("largest").record.statistic(context.job.device.statistic)
    return subject_of(context, evaluations, full_latency=full)


def configure_run(
    path: Path,
    wish: Wish,
    config: ConfigureConfig | None = None,
    *,
    tasks: Iterable[str] | None = None,
    export: Path | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """The network of a finished run for budget, preference and floors; writes it as ONNX when `export` is given.

    With `tasks`, it answers these alone; costs, scores, and what percents refer to are those of such networks.
    """
    RunFolder(path).result("search", "search.json")  # names the missing file where there is no run
    context = finished_context(path, progress)
    with context.run.locked():
        part = for_tasks(context, tasks)
        subject = run_subject(part, run_identity(context, part))
        found = configure(subject, wish, config, seed=context.seed("configure"), progress=progress)
        if part is not context:
            found = replace(found, tasks=tuple(part.tasks))
        about = told(context.run, found.arch, subject.objectives)
        record = {**found.to_json(), **about, "doubt": part.profile.doubt}
        if export is not None:
            record["onnx"] = str(export_arch(context, found.arch, export, found.tasks or None))
    return record


def configured_text(record: Mapping[str, Any]) -> str:
    """The same for people."""
    found = Configured.from_json(record)
    share = ", ".join(f"{task} {100 * part:.0f} %" for task, part in found.preference.items())
    alone = f" for {', '.join(found.tasks)} alone" if found.tasks else ""
    lines = [f"network {record['id']}{alone}, for the preference {share}; {found.evaluations} networks were compared"]
    lines += cost_lines(record["costs"], found.limits)
    for task, value in ((row["name"], found.scores[row["name"]]) for row in record["scored"]):
        floor = f", floor {found.floors[task]:.4g}" if task in found.floors else ""
        lines.append(score_line(record, task, value, f", unpruned {found.full_scores[task]:.4g}{floor}"))
    lines += arch_lines(record)
    if record.get("doubt"):
        lines.append(f"the latency predictor is in doubt: {record['doubt']}")
    if "onnx" in record:
        lines.append(f"wrote {record['onnx']} (not fine-tuned, not certified: mtnas certify FILE --latency-ms ...)")
    return "\n".join(lines)
