"""Score sub-networks and files on the run's splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtnas.base.groups import Selection
from mtnas.stages.context import RunContext

if TYPE_CHECKING:
    import onnx
    from torch import nn

Scores = dict[str, dict[str, float]]


def score_selection(
    context: RunContext, selection: Selection, *, split: str = "select", limit: int | None = None
) -> Scores:
    """Metrics of a sub-network of the supernet on one split, statistics re-estimated; what none of the context's tasks
    needs does not run."""
    from mtnas.score.score import score

    elastic, tasks = context.elastic, tuple(context.tasks)
    statistics = elastic.statistics(selection, tasks=tasks)
    return score(
        lambda image_BCHW: elastic.run(image_BCHW, selection, statistics=statistics, tasks=tasks),
        context.tasks,
        context.split(split),
        limit=limit,
        batch_size=context.job.score.batch_size,
    )


def score_module(context: RunContext, module: nn.Module, split: str) -> Scores:
    """Metrics of a plain torch module on one split."""
    from mtnas.score.score import score

    return score(module, context.tasks, context.split(split), batch_size=context.job.score.batch_size)


def score_file(context: RunContext, model: Path | onnx.ModelProto | bytes, split: str) -> Scores:
    """Metrics of an exported network, run by onnxruntime, on one split."""
    from mtnas.score.score import score
    from mtnas.verify.metrics import onnx_forward

    return score(onnx_forward(model), context.tasks, context.split(split))
