"""Writes the folder of a run that never happened: every result file as the stages write them, up to a given stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import report_first
import report_last
from report_folder import FakeFolder

#: every stage with the function that writes its files, in time order
WRITERS: Mapping[str, Callable[[FakeFolder], None]] = {
    "start": report_first.start,
    "space": report_first.space,
    "train": report_first.train,
    "profile": report_first.profile,
    "search": report_first.search,
    "prune": report_last.prune,
    "quantize": report_last.quantize,
    "export": report_last.export,
    "verify": report_last.verify,
    "certify": report_last.certify,
}
STAGES = tuple(WRITERS)


class FakeRun(FakeFolder):
    """One fabricated run."""

    def upto(self, last: str) -> Path:
        """Write every stage up to `last`, with its events."""
        events = []
        for number, stage in enumerate(STAGES[: STAGES.index(last) + 1]):
            WRITERS[stage](self)
            if stage != "start":
                ended = {"time": 1.78e9 + 40 * number, "stage": stage, "event": "end", "seconds": 12.5 * number}
                events += [{"time": 1.78e9 + 40 * number - 30, "stage": stage, "event": "start"}, ended]
        self.lines("events.jsonl", events)
        return self.folder
