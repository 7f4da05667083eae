"""Asking a network everything that a control report needs, and putting the answers together.

Every preference of the fixed set, and of one sweep for each task, is asked at every budget. Networks are chosen by
the data of one split and scored here on another. What cannot be kept is an answer, too: it says why. The hypervolume
of a budget is over the fixed set alone, so that it is over as many points for every method that answers all of them.

Shape letters: N = answers, T = tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mtnas.base.errors import Infeasible, JobError
from mtnas.base.progress import Progress, Silent
from mtnas.search.configure import Bounds
from mtnas.search.control import (
    REFERENCE_RATIO,
    budget_error,
    loss_ratios,
    rank_control,
    ratio_hypervolume,
    score_ranges,
    simplex_preferences,
    sweep_preferences,
    uniformity,
)
from mtnas.search.objectives import Objective
from mtnas.search.trial import Cost
from mtnas.space.arch import Arch

SCHEMA = "control/1"
#: preferences of the fixed set, as opposed to those of a task's sweep
SET = "set"


@dataclass(frozen=True)
class Question:
    """One turn of both dials.

    Args:
        budget: limits by name, as a user types them.
        preference: task -> weight.
        part: `set`, or the task whose sweep it belongs to.
    """

    budget: Bounds
    preference: Mapping[str, float]
    part: str = SET


@dataclass(frozen=True)
class Choice:
    """The network that a question led to, before it is scored.

    Args:
        arch: the network.
        costs: by limit name.
        limits: absolute bounds.
    """

    arch: Arch
    costs: Mapping[str, Cost]
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Args:
        question: as asked.
        arch: the network; None when nothing keeps the budget, as `reason` tells.
        scores: task -> score on the data that reports are made of.
        costs: by limit name.
        limits: absolute bounds.
        reason: why there is no network.
    """

    question: Question
    arch: Arch | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "budget": dict(self.question.budget),
            "preference": dict(self.question.preference),
            "part": self.question.part,
            "id": self.arch.id if self.arch else None,
            "arch": self.arch.to_json() if self.arch else None,
            "scores": dict(self.scores),
            "costs": {name: cost.to_json() for name, cost in self.costs.items()},
            "limits": dict(self.limits),
            "reason": self.reason,
        }


def all_questions(
    tasks: Sequence[str], budgets: Sequence[Bounds], *, count: int = 20, sweep: int = 5, seed: int = 0
) -> list[Question]:
    """`count` preferences spread over the simplex and a sweep of `sweep` steps for each task, at every budget.

    One task has nothing to prefer and no sweep; `sweep=0` leaves the sweeps out.
    """
    if not budgets:
        raise JobError("at least one budget", received="none", where="control")
    parts: list[tuple[str, Mapping[str, float]]] = [(SET, p) for p in simplex_preferences(tasks, count, seed)]
    if sweep and len(tasks) > 1:
        parts += [(task, p) for task, row in sweep_preferences(tasks, sweep).items() for p in row]
    return [Question(budget, preference, part) for budget in budgets for part, preference in parts]


def ask(
    questions: Sequence[Question],
    choose: Callable[[Question], Choice],
    scores: Callable[[Arch], Mapping[str, float]],
    progress: Progress | None = None,
) -> list[Answer]:
    """Answer all questions in order.

    Args:
        questions: from `all_questions`.
        choose: the network for one; raises `Infeasible` where nothing keeps its budget.
        scores: of a network, on other data than it was chosen by; remembers (`mtnas.search.evaluations`).
        progress: shows a bar.
    """
    answers = []
    with (progress or Silent()).task("control", len(questions)) as bar:
        for question in questions:
            try:
                chosen = choose(question)
            except Infeasible as error:
                answers.append(Answer(question, reason=error.received or error.expected))
            else:
                found = dict(scores(chosen.arch))
                answers.append(Answer(question, chosen.arch, found, chosen.costs, chosen.limits))
            bar.advance()
    return answers


@dataclass(frozen=True)
class Reference:
    """What scores are compared with.

    Args:
        what: in words, such as `the unpruned network` or `single-task networks`.
        scores: task -> score, on the same data as the answers'.
    """

    what: str
    scores: Mapping[str, float]


def control_record(
    objectives: Sequence[Objective],
    answers: Sequence[Answer],
    reference: Reference,
    *,
    point: float = REFERENCE_RATIO,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that was measured, as JSON; `docs/control.md` tells what each number means.

    Args:
        objectives: the tasks.
        answers: of `ask`.
        reference: loss ratios are relative to it.
        point: the hypervolume's reference point, a loss ratio.
        seed: of the Monte Carlo estimate beyond five tasks.
    """
    budgets: dict[str, list[Answer]] = {}
    for answer in answers:
        budgets.setdefault(budget_text(answer.question.budget), []).append(answer)
    rows = [_row(objectives, text, found, reference, point, seed) for text, found in budgets.items()]
    volumes = [row["hypervolume"]["value"] for row in rows if row["hypervolume"]]
    return {
        "schema": SCHEMA,
        "tasks": [objective.to_json() for objective in objectives],
        "reference": asdict(reference),
        "reference_ratio": point,
        "budgets": rows,
        "mean_hypervolume": sum(volumes) / len(rows) if rows else 0.0,
        "lowest_rank": _lowest(rows, "rank"),
        "lowest_sweep_rank": _lowest(rows, "sweep_rank"),
        "answers": [answer.to_json() for answer in answers],
    }


def budget_text(budget: Bounds) -> str:
    return ", ".join(f"{name}={value}" for name, value in budget.items()) or "no limit"


def _row(
    objectives: Sequence[Objective],
    text: str,
    answers: Sequence[Answer],
    reference: Reference,
    point: float,
    seed: int,
) -> dict[str, Any]:
    """One budget; measures that nothing can be said about are null."""
    higher = {objective.name: objective.higher_is_better for objective in objectives}
    found = [answer for answer in answers if answer.arch is not None]
    ratios = {id(answer): loss_ratios(answer.scores, reference.scores, higher) for answer in found}
    inside = [answer for answer in found if answer.question.part == SET]
    ratio_NT = np.array([list(ratios[id(answer)].values()) for answer in inside]).reshape(-1, len(higher))
    weight_NT = np.array([[answer.question.preference[t] for t in higher] for answer in inside]).reshape(ratio_NT.shape)
    return {
        "budget": text,
        "asked": len(answers),
        "answered": len(found),
        "networks": len({answer.arch.id for answer in found if answer.arch}),
        "hypervolume": ratio_hypervolume(ratio_NT, point, seed=seed).to_json() if inside else None,
        "uniformity": uniformity(weight_NT, ratio_NT) if inside and (ratio_NT > 0).all() else None,
        "rank": _ranks(inside, ratios, higher),
        "sweep_rank": {
            task: _ranks([a for a in found if a.question.part == task], ratios, higher)[task] for task in higher
        },
        "score": score_ranges([answer.scores for answer in found]),
        "ratio": score_ranges([ratios[id(answer)] for answer in found]),
        "budget_error": _errors(found),
        "reasons": sorted({answer.reason for answer in answers if answer.reason}),
    }


def _ranks(
    answers: Sequence[Answer], ratios: Mapping[int, Mapping[str, float]], higher: Mapping[str, bool]
) -> dict[str, float | None]:
    """Rank correlation of each task's preference and quality; null for fewer than two answers."""
    if len(answers) < 2:
        return dict.fromkeys(higher)
    return rank_control([a.question.preference for a in answers], [ratios[id(a)] for a in answers])


def _errors(answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """For each limit, how well it was used."""
    names = dict.fromkeys(name for answer in answers for name in answer.limits)
    return {
        name: budget_error([a.costs[name].value for a in answers], [a.limits[name] for a in answers]) for name in names
    }


def _lowest(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The lowest of all tasks and budgets; a rank that is not defined counts as nothing moved, 0."""
    ranks = [0.0 if rank is None else rank for row in rows for rank in row[key].values()]
    return min(ranks, default=None)
