"""What a record answers when it is asked for a preference and a budget. Choosing sees the select split only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtnas.base.errors import DataError
from mtnas.search.control import loss_ratios
from mtnas.space.arch import Arch
from tools.bench.supernets.arms import single
from tools.bench.supernets.choosing import Metrics, Weights, led_to
from tools.bench.supernets.settings import Setting
from tools.bench.supernets.work import RECORDS, read_record

Record = Mapping[str, Any]


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
    """One scored network: which it is, its cost, and its loss ratios on the two splits.

    A network that no question led to has not seen the report split; its `report` is empty.
    """

    arch: str
    macs: float
    select: Mapping[str, float]
    report: Mapping[str, float]


def candidates(records: Records, arm: str, seed: int) -> list[Candidate]:
    """All scored networks of a searched arm."""
    return list(_candidates(records, records.read(f"answers-{arm}", seed)["candidates"], seed))


def _candidates(records: Records, rows: Sequence[Record], seed: int) -> Iterator[Candidate]:
    for row in rows:
        report = records.ratios(row, "report", seed) if "report" in row else {}
        yield Candidate(Arch.from_json(row["arch"]).id, row["macs"], records.ratios(row, "select", seed), report)


def picks(found: Sequence[Candidate], preferences: Sequence[Weights], budget: float) -> list[Candidate]:
    """The networks within the budget that the preferences lead to, one each; none where nothing fits."""
    macs, losses = [one.macs for one in found], [one.select for one in found]
    return [found[place] for place in led_to(macs, losses, preferences, budget)]
