"""Totals over records: outliers counted once each, reasons grouped when only their numbers differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtnas.measure.config import MeasureConfig
from mtnas.measure.quality import outlier_totals, untrusted_totals
from mtnas.measure.record import Environment, LatencyRecord, make_record
from mtnas.measure.runs import Runs


def record(*slow: int, interrupted: tuple[int, ...] = (), untrusted: tuple[str, ...] = ()) -> LatencyRecord:
    """Two rounds of ten runs of 1 ms; `slow` places of the first round took ten times that."""
    ms_RN = np.ones((2, 10))
    ms_RN[0, list(slow)] = 10.0
    config = MeasureConfig()
    environment = Environment("d", "r", "1", 1, False, "float32", "cpu", (), 2)
    found = make_record("n", Runs.of(ms_RN, (interrupted, ())), np.ones(2), "", config, environment)
    return replace(found, untrusted=untrusted)


def test_outliers_add_up() -> None:
    totals = outlier_totals([record(), record(3, 4, interrupted=(4,)), record(0)])
    assert totals == {"count": 3, "runs": 60, "share_percent": 5.0, "interrupted": 1, "networks": 2}


def test_records_from_before_outliers_were_kept_are_counted_from_their_runs() -> None:
    old = replace(record(3), outliers=None)
    assert outlier_totals([old]) == outlier_totals([record(3)])


def test_reasons_that_differ_in_numbers_are_one() -> None:
    high, higher = ("load 3.1 on 2 cores: other work runs here",), ("load 4 on 2 cores: other work runs here",)
    totals = untrusted_totals([record(untrusted=high), record(untrusted=(*higher, "throttled: cap")), record()])
    assert totals["networks"] == 2
    assert totals["reasons"] == [{"example": high[0], "networks": 2}, {"example": "throttled: cap", "networks": 1}]
    assert untrusted_totals([record()]) == {"networks": 0, "reasons": []}
