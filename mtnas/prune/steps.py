"""The records of a pruning plan: judged steps, comparisons with the start, and the journal that replays both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.prune.config import PruneConfig

SCHEMA = "prune-journal/2"
#: settings that decide what is tried and measured, and in which order
_SETTINGS = ("target", "step", "min_units", "criterion", "refresh_steps", "accept")


@dataclass(frozen=True)
class Judgement:
    """A measured comparison of two networks: `ratio` = after / before with its interval.

    `resolution_percent` is what two copies of one network differed by meanwhile; no smaller difference counts.
    """

    latency_ms: float
    ratio: float
    low: float
    high: float
    resolution_percent: float = 0.0

    @property
    def faster(self) -> bool:
        """The whole interval says so, by more than chance alone makes."""
        return self.high < 1.0 and 100.0 * (1.0 - self.ratio) > self.resolution_percent

    @property
    def slower(self) -> bool:
        """The whole interval says so, by more than chance alone makes."""
        return self.low > 1.0 and 100.0 * (self.ratio - 1.0) > self.resolution_percent

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Judgement:
        return Judgement(
            data["latency_ms"], data["ratio"], data["low"], data["high"], data.get("resolution_percent", 0.0)
        )


@dataclass(frozen=True)
class PruneStep:
    """One judged step.

    Args:
        number: place in the plan, from 0.
        group, removed: which units of which group.
        importance: what they were worth, summed.
        accepted: whether they stay removed.
        judgement: latency after the step against before it.
        missed: the floor that the step would break; empty when none, or when nobody asked.
    """

    number: int
    group: str
    removed: tuple[int, ...]
    importance: float
    accepted: bool
    judgement: Judgement
    missed: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "group": self.group,
            "removed": list(self.removed),
            "importance": self.importance,
            "accepted": self.accepted,
            "missed": self.missed,
            **asdict(self.judgement),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PruneStep:
        return PruneStep(
            data["number"],
            data["group"],
            tuple(data["removed"]),
            data["importance"],
            data["accepted"],
            Judgement.from_json(data),
            data["missed"],
        )


@dataclass(frozen=True)
class PrunePlan:
    """The pruned selection and how it came about.

    Args:
        selection: the units that stay.
        steps: everything that was tried, in order.
        reached: whether the target was reached.
        stopped_because: in words.
        ratio: latency against the start's, as far as it was measured.
    """

    selection: Selection
    steps: tuple[PruneStep, ...]
    reached: bool
    stopped_because: str
    ratio: float = 1.0


class PlanJournal:
    """Steps and comparisons, durable before the next begins; those of an earlier, interrupted run come first.

    Raises `CheckpointError` when the file holds another plan.
    """

    def __init__(self, path: Path, start: Selection, config: PruneConfig) -> None:
        self._journal = Journal(path)
        header = {
            "schema": SCHEMA,
            "start": start.to_json(),
            **{key: getattr(config, key) for key in _SETTINGS},
        }
        records = self._journal.records()
        if not records:
            self._journal.append(header)
        elif records[0] != header:
            raise self._foreign("a journal of another start or other settings")
        self._past = records[1:]

    def step(self, groups: Mapping[str, tuple[int, ...]]) -> PruneStep | None:
        """The next step of the earlier run; None when there is none.

        Args:
            groups: the units that each group keeps now.
        """
        record = self._next("step")
        if record is None:
            return None
        step = PruneStep.from_json(record)
        if not set(step.removed) <= set(groups.get(step.group, ())):
            raise self._foreign(f"a step that removes units of {step.group!r} which are not there")
        return step

    def check(self) -> Judgement | None:
        """The next comparison with the start in the earlier run; None when there is none."""
        record = self._next("check")
        return None if record is None else Judgement.from_json(record)

    def write_step(self, step: PruneStep) -> None:
        self._journal.append({"kind": "step", **step.to_json()})

    def write_check(self, judgement: Judgement) -> None:
        self._journal.append({"kind": "check", **asdict(judgement)})

    def _next(self, kind: str) -> dict[str, Any] | None:
        if not self._past:
            return None
        record = self._past.pop(0)
        if record.get("kind") != kind:
            raise self._foreign(f"a record of kind {record.get('kind')!r} where a {kind} is due")
        return record

    def _foreign(self, received: str) -> CheckpointError:
        return CheckpointError(
            "the journal of this plan",
            received=received,
            where=str(self._journal.path),
            cure="use a new --out, or delete this file to plan again",
        )
