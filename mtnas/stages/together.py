"""The train stage under torchrun: process 0 runs the flow, the others join it for the training only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mtnas.base.errors import JobError
from mtnas.stages.context import RunContext
from mtnas.train.result import TrainResult

if TYPE_CHECKING:
    from mtnas.train.watch import Watch


def processes(environment: Mapping[str, str]) -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(environment.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in environment else 1


def check_stage(stage: str, count: int) -> None:
    """Raise `JobError` unless several processes can share this stage."""
    if count > 1 and stage != "train":
        raise JobError(
            "one process for all that is not training",
            received=f"{count} processes for {stage!r}",
            where="torchrun",
            cure="torchrun --nproc-per-node ... -m mtnas train JOB, then mtnas run JOB with the same --out",
        )


def run_together(context: RunContext, flow: Callable[[], None]) -> bool:
    """Process 0 runs `flow`, whose train stage calls the others; returns whether this is process 0.

    Where the flow does not train, as everything is done, the others are let go.
    """
    from mtnas.train.ranks import joined

    with joined(context.job.train.wait_seconds) as ranks:
        if not ranks.leads:
            if ranks.agreed(0.0):
                train_supernet(context)
            return False
        called = list[float]()
        context.before_training = lambda: called.append(ranks.agreed(1.0))
        flow()
        if not called:
            ranks.agreed(0.0)
        return True


def train_supernet(context: RunContext) -> TrainResult:
    """The training itself, in each process alike."""
    from mtnas.train.loop import train

    return train(
        context.elastic,
        context.tasks,
        context.split("train"),
        context.job.train,
        context.run.stage("train"),
        seed=context.seed("train"),
        progress=context.progress,
        watch=_watch(context),
    )


def _watch(context: RunContext) -> Watch | None:
    from mtnas.train.watch import Watch

    config = context.job.train
    if not config.watch_epochs:
        return None
    split, batch_size = context.split("select"), context.job.score.batch_size
    return Watch(context.elastic, context.tasks, split, config.watch_images, config.watch_epochs, batch_size)
