"""What every benchmark of this folder begins with: the records, made where they are missing."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.console import ConsoleProgress
from tools.bench.record import Options
from tools.bench.supernets.answers import Records
from tools.bench.supernets.arms import single
from tools.bench.supernets.choosing import Metrics
from tools.bench.supernets.settings import check_seeds, setting_of
from tools.bench.supernets.work import RECORDS, WEIGHTS, Worker

SEEDS = 3


def opened(
    data: str, arms: Sequence[str], options: Options, answering: Sequence[str] = ()
) -> tuple[Records, tuple[int, ...]]:
    """The records of these arms and of the single-task references, and the seeds they were made with.

    Args:
        data: name of the setting.
        arms: to train.
        options: seeds, quick.
        answering: arms whose candidates are scored.
    """
    setting = setting_of(data, quick=options.quick)
    folder = WEIGHTS / "quick" if options.quick else RECORDS
    worker = Worker(setting, records=folder, progress=ConsoleProgress())
    records = Records(setting, Metrics.of(worker.tasks), folder)
    seeds = check_seeds(options.seeds or (1 if options.quick else SEEDS))
    for seed in seeds:
        for arm in (*(single(task, 1.0) for task in worker.tasks), *arms):
            worker.make(arm, seed)
        for arm in answering:
            worker.answer(arm, seed)
    return records, seeds


def note_of(records: Records, text: str) -> str:
    """The setting in words, then what the numbers mean."""
    setting, train = records.setting, records.setting.train
    size = f"{setting.data.height}x{setting.data.width}"
    networks = train.random_widths + 2
    return (
        f"{setting.data.name} at {size}, {setting.model.encoder} of width {setting.model.width}, heads of width "
        f"{setting.model.head_width}, {train.epochs} epochs of {networks} networks. {text}"
    )
