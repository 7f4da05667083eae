"""What a record answers when it is asked for a preference and a budget. Choosing sees the select split only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas.base.errors import DataError
from mtnas.search.control import loss_ratios
from mtnas.space.arch import Arch
from mtnas.tasks.base import Task
from tools.bench.supernets.arms import single
from tools.bench.supernets.settings import Setting
from tools.bench.supernets.work import RECORDS, read_record

#: rounding of shares must not put a network beyond its own budget
_EPSILON = 1e-9

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Metrics:
    """The primary metric of each task, and its direction."""

    names: Mapping[str, str]
    higher: Mapping[str, bool]

    @staticmethod
    def of(tasks: Mapping[str, Task]) -> Metrics:
        primary = {name: task.primary for name, task in tasks.items()}
        return Metrics({n: m.name for n, m in primary.items()}, {n: m.higher_is_better for n, m in primary.items()})

    def of_scores(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {task: scores[task][name] for task, name in self.names.items() if task in scores}


class Records:
    """The records of a setting, and the single-task references of their seeds."""

    def __init__(self, setting: Setting, metrics: Metrics, folder: Path = RECORDS) -> None:
        self.setting, self.metrics, self.folder = setting, metrics, folder

    def read(self, arm: str, seed: int) -> Record:
        """A record; raises `DataError` with the command that makes it."""
        found = read_record(self.setting, arm, seed, self.folder)
        if found is None:
            raise DataError(
                "a record",
                received="none",
                where=f"{self.setting.name}, {arm}, seed {seed}",
                cure=f"python -m tools.bench.supernets {self.setting.name} --seeds {seed + 1}",
            )
        return found

    def seeds(self, arms: Sequence[str], most: int) -> tuple[int, ...]:
        """The seeds that have all of these arms and all references."""
        needed = [*arms, *(single(task, 1.0) for task in self.metrics.names)]
        complete = [
            seed
            for seed in range(most)
            if all(read_record(self.setting, arm, seed, self.folder) is not None for arm in needed)
        ]
        if not complete:
            self.read(next(arm for arm in needed if read_record(self.setting, arm, 0, self.folder) is None), 0)
        return tuple(complete)

    def reference(self, split: str, seed: int) -> dict[str, float]:
        """Scores of the single-task networks."""
        found: dict[str, float] = {}
        for task in self.metrics.names:
            found |= self.metrics.of_scores(self.read(single(task, 1.0), seed)[split])
        return found

    def ratios(self, scores: Mapping[str, Any], split: str, seed: int) -> dict[str, float]:
        """Loss ratios of a scored network to the single-task references; 1 is level with them, lower is better."""
        return loss_ratios(self.metrics.of_scores(scores[split]), self.reference(split, seed), self.metrics.higher)

    def partial_ratios(self, scores: Mapping[str, Any], split: str, seed: int) -> dict[str, float]:
        """Loss ratios of a network that answers only some of the tasks."""
        own = self.metrics.of_scores(scores[split])
        return loss_ratios(own, self.reference(split, seed), {task: self.metrics.higher[task] for task in own})

    def delta(self, scores: Mapping[str, Any], split: str, seed: int) -> float:
        """Mean relative gain over the single-task references, in percent (`one_metric`)."""
        ratios = self.ratios(scores, split, seed)
        return 100.0 * (1.0 - sum(ratios.values()) / len(ratios))


@dataclass(frozen=True)
class Candidate:
    """One scored network: which it is, its cost, and its loss ratios on the two splits."""

    arch: str
    macs: float
    select: Mapping[str, float]
    report: Mapping[str, float]
    scores: Mapping[str, float]


def candidates(records: Records, arm: str, seed: int) -> list[Candidate]:
    """All scored networks of a searched arm."""
    return list(_candidates(records, records.read(f"answers-{arm}", seed)["candidates"], seed))


def _candidates(records: Records, rows: Sequence[Record], seed: int) -> Iterator[Candidate]:
    for row in rows:
        select, report = (records.ratios(row, split, seed) for split in ("select", "report"))
        yield Candidate(
            Arch.from_json(row["arch"]).id, row["macs"], select, report, records.metrics.of_scores(row["report"])
        )


def pick(found: Sequence[Candidate], preference: Mapping[str, float], budget: float) -> Candidate | None:
    """Within the budget, the best preferred score on the select split, as `Front.pick` has it; None where nothing fits.

    Each task is scaled to 0 (worst of those within the budget) .. 1 (best).
    """
    within = [candidate for candidate in found if candidate.macs <= budget + _EPSILON]
    if not within:
        return None
    worst = {task: max(c.select[task] for c in within) for task in within[0].select}
    best = {task: min(c.select[task] for c in within) for task in within[0].select}
    weight = {t: preference[t] / (worst[t] - best[t]) if worst[t] > best[t] else 0.0 for t in worst}
    return min(within, key=lambda c: sum(weight[task] * c.select[task] for task in weight))
