"""Evaluations that several searches share, kept in a journal on disk: an interrupted benchmark goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.errors import JobError
from mtnas.base.files import content_hash, file_hash
from mtnas.base.journal import Journal
from mtnas.job.read import plain
from mtnas.search.problem import Evaluate
from mtnas.search.trial import Outcome
from mtnas.space.arch import Arch
from mtnas.stages.context import RunContext
from mtnas.stages.costs import counted_costs
from mtnas.stages.evaluate import Evaluator
from mtnas.stages.scoring import score_selection


class SharedEvaluations:
    """`evaluate`, but every arch is evaluated once, whoever asks, and written down before it is answered."""

    def __init__(self, evaluate: Evaluate, path: Path) -> None:
        self.evaluate = evaluate
        self.journal = Journal(path)
        self.known = {record["id"]: Outcome.from_json(record) for record in self.journal.records()}

    def __call__(self, arch: Arch) -> Outcome:
        if arch.id not in self.known:
            outcome = self.evaluate(arch)
            self.journal.append({"id": arch.id, "arch": arch.to_json(), **outcome.to_json()})
            self.known[arch.id] = outcome
        return self.known[arch.id]


def predicted_only(evaluator: Evaluator) -> Evaluate:
    """Scores of the supernet and predicted latency; nothing is measured, so that equal archs get equal outcomes."""
    if "memory_mb" in evaluator.limits:
        raise JobError(
            "limits that can be counted or predicted", received="memory_mb", where="budget", cure="use another run"
        )
    context = evaluator.context

    def evaluate(arch: Arch) -> Outcome:
        selection = evaluator.elastic.selection(arch)
        scores = score_selection(context, selection, limit=context.job.score.select_images)
        costs = {**counted_costs(context, selection), "latency_ms": evaluator.predict(selection)}
        return evaluator.outcome(scores, costs)

    return evaluate


def evaluations_id(context: RunContext) -> str:
    """Changes with everything that the outcome of an arch depends on."""
    run = context.run
    parts: dict[str, Any] = {
        "mtnas": __version__,
        "weights": file_hash(run.stage("train") / "weights.safetensors"),
        "predictor": file_hash(run.stage("profile") / "device" / "predictor.json"),
        "space": context.elastic.space.id,
        "data": context.data_fingerprint,
        "score": plain(context.job.score),
    }
    return content_hash(parts)[:12]
