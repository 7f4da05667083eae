"""How long a job will take, roughly: a few timed passes of the full-size network, times what the job asks for.

Good to a factor of about two, on a machine that is as busy then as now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mtnas.job.schema import Job
from mtnas.stages.context import RunContext
from mtnas.stages.estimate_measuring import (
    candidates_s,
    certifying_s,
    int8_copies_s,
    networks_s,
    parts_s,
    probing_s,
    profiling_s,
)

#: making images, drawing the graph, exporting, verifying, reporting
_FIXED_S = 20.0
#: images of the timed passes
_BATCH = 16


def seconds_by_stage(context: RunContext, record: dict[str, Any], step_ratio: float) -> dict[str, float]:
    """Seconds of each long stage and in total.

    Args:
        context: the run.
        record: what the space stage wrote.
        step_ratio: what a training step computes, in steps of a plain network.
    """
    job, sizes = context.job, context.dataset.info.sizes
    forward_s, learn_s = _seconds_per_image(context)
    small = record["smallest"]["macs"] / record["largest"]["macs"]
    middle = (1.0 + small) / 2.0
    latency_ms = record["quick_costs"]["largest"]["latency_ms"]["value"]
    scored = job.score.calibrate_images + min(job.score.select_images or sizes["select"], sizes["select"])
    lines = 1 if job.search.random_line() is None else 2
    measuring_scores = candidates_s(job, latency_ms * middle, job.search.trials * lines) if _measures_all(job) else 0.0
    found = {
        "space": probing_s(context),
        "train": job.train.epochs * job.train.round * sizes["train"] * learn_s * step_ratio,
        "profile": profiling_s(context, latency_ms, latency_ms * middle),
        "search": job.search.trials * lines * scored * forward_s * middle
        + measuring_scores
        + candidates_s(job, latency_ms * middle, job.search.measure_front),
        "prune": _pruning_s(context, forward_s, learn_s * middle, latency_ms * middle),
        "quantize": int8_copies_s(context, latency_ms * middle),
        "verify": sizes["report"] * forward_s * 6 + parts_s(context, latency_ms * middle),
        "certify": certifying_s(job, latency_ms * middle),
        "references": _references_s(context, learn_s),
        "rest": _FIXED_S,
    }
    return {name: round(seconds, 1) for name, seconds in {**found, "total": sum(found.values())}.items()}


def _measures_all(job: Job) -> bool:
    """Whether every candidate of a search is measured, since a limit is of what no predictor tells."""
    return any(limit.name in {"memory_mb", "energy_mj"} for limit in job.budget.limits)


def _pruning_s(context: RunContext, forward_s: float, learn_s: float, latency_ms: float) -> float:
    """Judged steps with four networks each, then fine-tuning with the full network as teacher."""
    job, images = context.job, context.dataset.info.sizes["train"]
    steps = job.prune.max_steps // 2 if job.prune.enabled else 0
    return networks_s(job.device, latency_ms, 4 * steps) + job.finetune.epochs * images * (learn_s + forward_s)


def _references_s(context: RunContext, learn_s: float) -> float:
    """Single-task networks that are not in the cache; each is taken for as slow as the network of all tasks."""
    job = context.job
    if job.references.mode != "train":
        return 0.0
    epochs = job.references.epochs or job.train.epochs
    return len(context.elastic.tasks) * epochs * context.dataset.info.sizes["train"] * learn_s


def _seconds_per_image(context: RunContext) -> tuple[float, float]:
    """Forward alone in float32, and forward with backward in the fastest allowed arithmetic; the full-size network."""
    import torch

    from mtnas.train.precision import Mode, modes

    info, model = context.dataset.info, context.plain_model
    image_BCHW = torch.zeros(_BATCH, 3, info.height, info.width)

    def forward() -> None:
        with torch.inference_mode():
            model(image_BCHW)

    def learn(mode: Mode) -> None:
        with mode.autocast(image_BCHW.device):
            outputs = model(mode.image(image_BCHW, image_BCHW.device))
        total = sum((output.float().mean() for output in outputs.values()), torch.zeros(()))
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.autograd.grad(total, weights, allow_unused=True)

    candidates, learn_s = modes(context.job.train), []
    with candidates[0].threaded():
        forward_s = _seconds(forward)
        for mode in candidates:
            mode.lay_out(model)
            learn_s.append(_seconds(partial(learn, mode)))
    return forward_s / _BATCH, min(learn_s) / _BATCH


def _seconds(work: Callable[[], None]) -> float:
    """The shorter of two passes after a first one."""
    took = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took[1:])


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
