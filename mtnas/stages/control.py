"""How far budget and preference control a trained elastic model: asked, scored on the report split, written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas.base.budget import Budget
from mtnas.base.errors import JobError
from mtnas.base.files import make_folder, read_json, write_json
from mtnas.base.progress import Progress
from mtnas.base.tables import check_name
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Bounds, Subject, Wish, configure
from mtnas.search.evaluations import Evaluations
from mtnas.search.front import Front
from mtnas.search.questions import Choice, Question, Reference, all_questions, ask, control_record
from mtnas.stages.configure import evaluations_of, finished_context, run_identity, run_subject
from mtnas.stages.context import RunContext
from mtnas.stages.folder import RunFolder
from mtnas.stages.inputs import inputs_hash
from mtnas.stages.some_tasks import for_tasks

CHOOSERS: dict[str, str] = {
    "configure": "decoders by preference, the encoder searched in what is left",
    "front": "the best preferred network of the measured front",
}
RESULT, JOURNAL = "control.json", "control-scores.jsonl"
UNPRUNED = "the unpruned network"
#: how far the budgets lie on the way from the smallest network's cost to the unpruned one's
BUDGET_SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Inquiry:
    """What is asked.

    Args:
        budgets: limits by name each; without any, four between the smallest and the unpruned network.
        chooser: a row of `CHOOSERS`.
        count: preferences of the fixed set.
        sweep: steps of each task's sweep; 0 for none.
        config: of `configure`.
        tasks: some of the run's tasks, whose networks alone are asked for; None = all.
    """

    budgets: tuple[Bounds, ...] = ()
    chooser: str = "configure"
    count: int = 20
    sweep: int = 5
    config: ConfigureConfig = ConfigureConfig()
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_name(self.chooser, CHOOSERS, "way to choose a network", "control.chooser")
        if self.tasks is not None and self.chooser == "front":
            raise JobError(
                "networks made for these tasks",
                received="--chooser front, whose networks were measured with all tasks",
                where="--tasks",
                cure="leave --chooser out",
            )
        for budget in self.budgets:
            Budget.parse(budget)


def control_run(path: Path, inquiry: Inquiry, *, progress: Progress | None = None) -> dict[str, Any]:
    """Ask a finished run, write `4-search/control.json`, and show it in the run's report where there is one.

    What is asked of some of its tasks is written to `subsets/<tasks>/4-search/`.
    """
    RunFolder(path).result("search", "search.json")  # names the missing file where there is no run
    context = finished_context(path, progress)
    with context.run.locked():
        part = for_tasks(context, inquiry.tasks)
        folder, identity = make_folder(part.run.stage("search")), run_identity(context, part)
        scores = evaluations_of(part, identity, folder / JOURNAL, split="report")
        front = Front.load(folder / "front.json") if inquiry.chooser == "front" else None
        reference = single_task_reference(context, part.tasks) or unpruned(part, scores)
        record = inquire(run_subject(part, identity), scores, reference, inquiry, front, part)
        write_json(folder / RESULT, record)
        _show(context)
    return record


def inquire(
    subject: Subject,
    scores: Evaluations,
    reference: Reference,
    inquiry: Inquiry,
    front: Front | None,
    context: RunContext,
) -> dict[str, Any]:
    """Ask, and put the answers together.

    Args:
        subject: chooses by the select split.
        scores: on the report split, as the reference's are.
        reference: what loss ratios are relative to.
        inquiry: what is asked.
        front: where the chooser is `front`.
        context: seeds and progress.
    """
    budgets = inquiry.budgets or default_budgets(subject)
    questions = all_questions(subject.tasks, budgets, count=inquiry.count, sweep=inquiry.sweep)
    choose = chooser_of(subject, front, inquiry.config, context.seed("configure"))
    answers = ask(questions, choose, scores, context.progress)
    record = control_record(subject.objectives, answers, reference)
    return {**record, "chooser": inquiry.chooser, "strategy": inquiry.config.strategy, "split": "report"}


def chooser_of(
    subject: Subject, front: Front | None, config: ConfigureConfig, seed: int
) -> Callable[[Question], Choice]:
    """The best preferred network of a front, or, without one, the network that is configured."""
    if front is None:

        def configured(question: Question) -> Choice:
            found = configure(subject, Wish(question.budget, question.preference), config, seed=seed)
            return Choice(found.arch, found.costs, found.limits)

        return configured
    full = {name: cost.value for name, cost in front.full.outcome.costs.items()} if front.full else {}

    def picked(question: Question) -> Choice:
        trial = front.pick(question.budget, question.preference)
        arch = subject.space.decode(subject.space.encode([trial.arch]))[0]  # a file has sorted names, a space its own
        return Choice(arch, trial.outcome.costs, Budget.parse(question.budget).resolve(full))

    return picked


def default_budgets(subject: Subject) -> tuple[Bounds, ...]:
    """Latency limits between the extremes, in percent; without a profile, limits on multiply-adds."""
    smallest, largest = subject.costs(subject.space.smallest), subject.costs(subject.space.largest)
    name = "latency_ms" if "latency_ms" in largest else "macs"
    low = min(1.0, smallest[name].value / largest[name].value)
    percents = dict.fromkeys(f"{100 * (low + (1 - low) * share):.1f}%" for share in BUDGET_SHARES)
    return tuple({name: percent} for percent in percents)


def unpruned(context: RunContext, scores: Evaluations) -> Reference:
    """The unpruned network of the supernet itself."""
    return Reference(UNPRUNED, scores(context.trained.space.largest))


def single_task_reference(context: RunContext, tasks: Iterable[str]) -> Reference | None:
    """The run's single-task networks, where it has trained them (`references: {mode: train}`)."""
    path = context.run.stage("references") / "references.json"
    record = read_json(path) if path.is_file() else {}
    if record.get("mode") != "train" or "scores" not in record:
        return None
    primary = {name: context.tasks[name].primary.name for name in tasks}
    return Reference(str(record["against"]), {n: float(record["scores"][n][metric]) for n, metric in primary.items()})


def _show(context: RunContext) -> None:
    """Make the report again, if it was made; it stays a finished stage."""
    from mtnas.stages import report

    run, inputs = context.run, ""
    if (run.stage("report") / "stage.json").exists():
        inputs = inputs_hash(context, "report")
    if inputs and run.finished("report", inputs):
        run.finish("report", inputs, report.run(context, run.begin("report", inputs)), 0.0)


# --- words ----------------------------------------------------------------------------------------------------


def control_text(record: Mapping[str, Any]) -> str:
    """The measures as a table for people."""
    tasks = [str(task["name"]) for task in record["tasks"]]
    head = ["budget", "answered", "networks", "hypervolume"]
    head += [f"{task} {what}" for task in tasks for what in ("rank", "sweep", "low..high")]
    rows = [head] + [[*_cells(row), *_task_cells(row, tasks)] for row in record["budgets"]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    points = max((row["hypervolume"]["points"] for row in record["budgets"] if row["hypervolume"]), default=0)
    lines.append(
        f"hypervolume of loss ratios up to {record['reference_ratio']:g}, relative to {record['reference']['what']}, "
        f"over the fixed set ({points} preferences); scores on the {record.get('split', 'report')} split; "
        f"networks by {record.get('chooser', 'configure')}"
    )
    lines.append("rank: Spearman's correlation of preference and quality, 1 where more preference is never worse")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    volume = row["hypervolume"]
    shown = "-" if volume is None else f"{volume['value']:.4g}"
    if volume and volume["samples"]:
        shown += f" ({volume['low']:.4g}..{volume['high']:.4g})"
    return [str(row["budget"]), f"{row['answered']}/{row['asked']}", str(row["networks"]), shown]


def _task_cells(row: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    cells = []
    for task in tasks:
        cells += ["-" if rank is None else f"{rank:.2f}" for rank in (row["rank"][task], row["sweep_rank"][task])]
        score = row["score"].get(task)
        cells.append(f"{score['low']:.4g}..{score['high']:.4g}" if score else "-")
    return cells
