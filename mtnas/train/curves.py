"""Training curves: one JSON line for every few steps, without gaps or repeats after a resumed run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtnas.base.files import write_text
from mtnas.base.journal import Journal
from mtnas.train.board import Board


class Curves:
    """Averages losses over `every` steps and writes them to `path`, and to `board` where there is one.

    Lines are written before the checkpoint that covers them; `rewind` drops those a resumed run will write again.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.journal = Journal(path)
        self.every = every
        self.sums: dict[str, float] = {}
        self.count = 0
        self.board: Board | None = None

    def add(self, step: int, losses: Mapping[str, float], fields: Mapping[str, Any], *, now: bool = False) -> None:
        """Take the losses of a step (1, 2, ...); every `every` steps, and `now`, a line is written."""
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss
        self.count += 1
        if now or step % self.every == 0:
            means = {name: value / self.count for name, value in self.sums.items()}
            total = means.pop("total")
            record = {"step": step, **fields, "losses": means, "total": total}
            self.journal.append(record)
            if self.board:
                self.board.add(record)
            self.sums, self.count = {}, 0

    def last(self) -> dict[str, float]:
        """The losses of the last line."""
        records = self.journal.records()
        return {**records[-1]["losses"], "total": records[-1]["total"]} if records else {}

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums, "count": self.count}

    def rewind(self, step: int, state: Mapping[str, Any]) -> None:
        """Go back to `step`, with the running averages of then."""
        self.sums, self.count = dict(state["sums"]), int(state["count"])
        records = self.journal.records()
        kept = [record for record in records if record["step"] <= step]
        if len(kept) != len(records):
            write_text(self.journal.path, "".join(json.dumps(record, sort_keys=True) + "\n" for record in kept))
