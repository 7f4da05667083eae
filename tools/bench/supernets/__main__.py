"""`python -m tools.bench.supernets DATA [--arms A,B] [--seeds 3]`: train what is missing, leave the records."""

from __future__ import annotations

import argparse
import os
import sys

from mtnas.base.errors import UserError
from mtnas.console import ConsoleProgress
from tools.bench.supernets.arms import ANSWERING, ARMS, alone, part, single, tuned
from tools.bench.supernets.settings import SETTINGS, Setting, check_seeds, setting_of
from tools.bench.supernets.work import Worker


def main(arguments: list[str] | None = None) -> int:
    """The whole command; returns the exit code."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
    asked = parser().parse_args(arguments)
    try:
        worker = Worker(setting_of(asked.data, quick=asked.quick), progress=ConsoleProgress())
        arms = asked.arms.split(",") if asked.arms else default_arms(worker.setting, list(worker.tasks))
        for seed in check_seeds(asked.seeds):
            for arm in arms:
                worker.make(arm, seed)
            for arm in arms:
                if arm in ANSWERING and not asked.train_only:
                    worker.answer(arm, seed)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


def default_arms(setting: Setting, tasks: list[str]) -> list[str]:
    """Everything the tables need, references first."""
    singles = [single(task, multiplier) for multiplier in setting.multipliers for task in tasks]
    return [
        *singles[: len(tasks)],
        *ARMS,
        *map(alone, setting.budgets),
        *map(part, setting.budgets),
        *map(tuned, setting.budgets),
        *singles[len(tasks) :],
    ]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tools.bench.supernets", description=__doc__)
    options.add_argument("data", help=", ".join(SETTINGS))
    options.add_argument("--arms", default="", help="comma-separated names; all by default")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds")
    options.add_argument("--train-only", action="store_true", help="do not score candidates yet")
    options.add_argument("--quick", action="store_true", help="learns next to nothing; shows that everything runs")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
