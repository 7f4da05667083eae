"""What many records together say about the quality of a measurement: outliers, and why numbers deserve no trust."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mtnas.measure.record import LatencyRecord
from mtnas.measure.runs import Outliers

_NUMBER = re.compile(r"\d+(\.\d+)?")


def outlier_totals(records: Sequence[LatencyRecord]) -> dict[str, Any]:
    """Outliers of all networks: `count` among `runs`, `share_percent`, `interrupted`, and `networks` that had any."""
    found = [_outliers(record) for record in records]
    count, runs = sum(one.count for one in found), sum(one.runs for one in found)
    return {
        "count": count,
        "runs": runs,
        "share_percent": 100.0 * count / max(1, runs),
        "interrupted": sum(one.interrupted for one in found),
        "networks": sum(one.count > 0 for one in found),
    }


def untrusted_totals(records: Sequence[LatencyRecord]) -> dict[str, Any]:
    """How many `networks` have a reason against them, and for each of the `reasons` an example and its networks.

    Sentences that differ in numbers alone, such as the load, are one reason.
    """
    examples: dict[str, str] = {}
    counts: dict[str, int] = {}
    for record in records:
        for key, sentence in {_NUMBER.sub("#", sentence): sentence for sentence in record.untrusted}.items():
            examples.setdefault(key, sentence)
            counts[key] = counts.get(key, 0) + 1
    reasons = [{"example": examples[key], "networks": counts[key]} for key in sorted(counts, key=lambda k: -counts[k])]
    return {"networks": sum(bool(record.untrusted) for record in records), "reasons": reasons}


def _outliers(record: LatencyRecord) -> Outliers:
    """As recorded; counted from the runs in records made before outliers were kept."""
    return record.outliers or record.runs.outliers
