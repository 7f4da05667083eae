"""Scores of networks, each evaluated once: cached, counted, and written down before they count.

The scores of a network depend on neither budget nor preference: one journal serves every request of the same trained
network, and an interruption loses at most the evaluation that was running.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from mtnas.base.errors import CheckpointError, ModelError
from mtnas.base.journal import Journal
from mtnas.space.arch import Arch

SCHEMA = "evaluations/1"
Scores = dict[str, float]
#: tells which archs are the same network
Same = Callable[[Arch], Hashable]


class Evaluations:
    """Task scores by network.

    Args:
        scores: evaluates one arch: task -> score.
        journal: JSON lines; made when missing. None: kept in memory only.
        identity: whatever the scores depend on, as JSON: the space, the weights, the data.
        same: equal for archs that are one network.

    Raises:
        CheckpointError: the journal belongs to something else.
    """

    def __init__(
        self,
        scores: Callable[[Arch], Mapping[str, float]],
        journal: Path | None = None,
        identity: Mapping[str, Any] | None = None,
        same: Same | None = None,
    ) -> None:
        self._scores = scores
        self._same: Same = same or (lambda arch: arch.id)
        self._journal = Journal(journal) if journal is not None else None
        self._known: dict[Hashable, Scores] = {}
        #: evaluated by this object, those of the journal left out
        self.count = 0
        if self._journal is not None:
            self._open(self._journal, {"schema": SCHEMA, **(identity or {})})

    def __call__(self, arch: Arch) -> Scores:
        """The scores of one arch; raises `ModelError` on NaN or infinity."""
        key = self._same(arch)
        if key not in self._known:
            found = {task: float(score) for task, score in self._scores(arch).items()}
            self.count += 1
            _check(arch, found)
            if self._journal is not None:
                self._journal.append({"arch": arch.to_json(), "scores": found})
            self._known[key] = found
        return dict(self._known[key])

    @property
    def known(self) -> int:
        """Networks whose scores are known, those of the journal included."""
        return len(self._known)

    def _open(self, journal: Journal, header: Mapping[str, Any]) -> None:
        records = journal.records()
        if not records:
            journal.append(dict(header))
            return
        for key, value in header.items():
            if records[0].get(key) != value:
                raise CheckpointError(
                    f"evaluations of this network: {key} = {value}",
                    received=f"{key} = {records[0].get(key)}",
                    where=str(journal.path),
                    cure="the network, its data or its tasks were changed since: delete the file, or use a new folder",
                )
        for record in records[1:]:
            self._known[self._same(Arch.from_json(record["arch"]))] = dict(record["scores"])


def _check(arch: Arch, scores: Scores) -> None:
    for task, score in scores.items():
        if not -float("inf") < score < float("inf"):
            raise ModelError(
                "finite scores",
                received=f"{task} = {score}",
                where=f"arch {arch.id}",
                cure="the network's output or its score is NaN or infinite for this arch",
            )
