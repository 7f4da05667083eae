"""What would make a run fail late, looked at before it starts: devices, names, packages of the stages to come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mtnas.base.errors import JobError
from mtnas.base.optional import require
from mtnas.base.tables import check_name
from mtnas.job.schema import Job
from mtnas.measure.devices import DeviceDescription, matching_device
from mtnas.measure.limits import check_limits
from mtnas.measure.predictor import FOLDS
from mtnas.prune.criteria.table import CRITERIA
from mtnas.search.strategies.table import EXTRAS
from mtnas.space.rules import read_rules
from mtnas.train.balance.needs import check_packages
from mtnas.train.board import check_tensorboard

if TYPE_CHECKING:
    from mtnas.stages.context import RunContext


def preflight(job: Job, stages: tuple[str, ...]) -> None:
    """Raise now what one of these stages would raise after hours."""
    for stage in stages:
        if stage in CHECKS:
            CHECKS[stage](job)


def preflight_labels(context: RunContext) -> None:
    """Raise now what scoring would raise after the training: a task for which a split holds no label at all."""
    data, score, sizes = context.job.data, context.job.score, context.dataset.info.sizes
    for split, limit in (("train", None), ("select", score.select_images), ("report", None)):
        few = limit is not None and limit < sizes[split]
        key = "score.select_images" if few else f"data.{split}"
        more = f"ask for more images, or leave {key} out for all there are; or " if few or getattr(data, split) else ""
        cure = f"{more}leave these tasks out"
        context.dataset.require_labels(split, list(context.tasks), limit, where=key, cure=cure)


def _space(job: Job) -> None:
    """The rules can be read; the device is known, fits the job, and can tell every cost that the budget limits."""
    read_rules(job.space.rules)
    device = matching_device(job.device)
    _int8(job, device)
    check_limits([limit.name for limit in job.budget.limits], device)


def _int8(job: Job, device: DeviceDescription) -> None:
    """A device that is measured in int8 gets int8 files, in its own dialect."""
    if device.precision != "int8":
        return
    if not job.quantize.enabled:
        raise JobError(
            f"an int8 network for {device.name}, which is measured in int8",
            received="quantize.enabled: false",
            where="quantize",
            cure="switch it on, or set device.precision: float32",
        )
    if job.quantize.dialect != device.dialect:
        raise JobError(
            f"the dialect {device.dialect!r} of {device.name}",
            received=repr(job.quantize.dialect),
            where="quantize.dialect",
            cure=f"set quantize.dialect: {device.dialect}",
        )


def _samples(job: Job) -> None:
    """Enough networks are measured, beside those held out, to fit the predictor on."""
    _enough(job, "samples", "40 is the default; 10 is few")


def _int8_samples(job: Job) -> None:
    """The same for the predictor of int8 files."""
    if job.quantize.enabled and job.device.int8_samples:
        _enough(job, "int8_samples", "16 is the default; 0 is none")


def _enough(job: Job, key: str, cure: str) -> None:
    count = getattr(job.device, key)
    kept = count - round(job.device.holdout * (count - 2))
    if kept < FOLDS:
        raise JobError(
            f"at least {FOLDS} measured networks to fit the predictor on",
            received=f"{kept} of {count}, the others are held out",
            where=f"device.{key}",
            cure=cure,
        )


def _strategy(job: Job) -> None:
    package = EXTRAS.get(job.search.strategy)
    if package:
        require(package, extra=package, why=f"search.strategy: {job.search.strategy}")


def _train(job: Job) -> None:
    check_packages(job.train.balance)
    check_tensorboard(job.train.tensorboard)
    if job.train.start and not Path(job.train.start).is_file():
        raise JobError(
            "a checkpoint to start from",
            received="no such file",
            where=f"train.start: {job.train.start}",
            cure="check the path, or leave train.start out",
        )


def _criterion(job: Job) -> None:
    check_name(job.prune.criterion, CRITERIA, "criterion", "prune.criterion")
    check_packages(job.finetune.balance, "finetune.balance")
    check_tensorboard(job.finetune.tensorboard, "finetune.tensorboard")


def _companions(job: Job) -> None:
    """The packages behind the files for other runtimes."""
    for name, wanted in (("openvino", job.export.openvino), ("tensorrt", job.export.tensorrt.enabled)):
        if wanted:
            require(name, extra=name, why=f"export.{name}")


CHECKS: dict[str, Callable[[Job], None]] = {
    "space": _space,
    "train": _train,
    "profile": _samples,
    "search": _strategy,
    "prune": _criterion,
    "quantize": _int8_samples,
    "export": _companions,
}
