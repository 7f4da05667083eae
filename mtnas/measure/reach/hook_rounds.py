"""Rounds that a command has answered, written down at once, so that an interruption costs the running round at most.

One file a device and purpose, in the user's cache folder. It is removed when its job is done; what another job has left
there, or this one more than a day ago, is not believed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtnas.base.files import content_hash
from mtnas.base.journal import Journal

_OLDEST_S = 86400.0
Answers = dict[str, Sequence[float]]


class HookRounds:
    """The rounds of one job so far: milliseconds by network key; the anchor's key is empty."""

    def __init__(self, path: Path, identity: str) -> None:
        self._journal = Journal(path)
        self.rounds: list[Answers] = []
        self.words: Mapping[str, str] = {}
        records = self._journal.records()
        fresh = bool(records) and records[0].get("job") == identity
        if fresh and time.time() - records[0]["time_s"] < _OLDEST_S:
            self.rounds = [record["answers"] for record in records[1:]]
            self.words = records[-1].get("words", {})
        else:
            path.unlink(missing_ok=True)
            self._journal.append({"job": identity, "time_s": round(time.time(), 3)})

    @staticmethod
    def of(device: str, purpose: str, identity: Mapping[str, Any]) -> HookRounds:
        """The file of this device and purpose."""
        name = "-".join(re.sub(r"[^\w.]+", "_", part) for part in (device, purpose))
        return HookRounds(cache_folder() / f"{name}.jsonl", content_hash(dict(identity)))

    def rounds_of(self, key: str) -> list[Answers]:
        """The rounds in which this network took part."""
        return [answers for answers in self.rounds if key in answers]

    def add(self, answers: Mapping[str, Sequence[float]], words: Mapping[str, str]) -> None:
        """One finished round."""
        kept = {key: list(ms) for key, ms in answers.items()}
        self._journal.append({"answers": kept, "words": dict(words)})
        self.rounds.append(dict(kept))

    def finish(self) -> None:
        """The job is done, and whoever wanted its numbers has them."""
        self._journal.path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where unfinished rounds are kept: `mtnas/hooks` in the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given else Path.home() / ".cache") / "mtnas" / "hooks"
