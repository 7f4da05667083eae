"""Held-out error of the latency predictor: three spaces, two runtimes, two precisions, one thread.

Each cell measures at most 150 sub-networks or for five minutes, and then predicts 100 fresh random archs that are
measured beside it. Beside our predictor stand a price per multiply-add, a table of operators measured alone, and the
A/A noise floor. What is measured is kept under `runs/bench/predictor`, so a stopped benchmark goes on; delete a cell's
folder to measure it again. A fourth space also chooses each branch's precision and the input size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mtnas.base.correlation import spearman
from mtnas.base.journal import Journal
from mtnas.base.progress import Progress
from mtnas.console import ConsoleProgress
from mtnas.measure.held_out import HeldOut, held_out_errors
from mtnas.measure.profile import Profile, fit_points
from tools.bench.predictor_baselines import macs_only, operator_sums
from tools.bench.predictor_cells import DIALECTS, MIXED, Cell, Measurements, Subject, measure_cell
from tools.bench.predictor_spaces import SPACES
from tools.bench.record import Claim, Column, Options, Result
from tools.bench.runs import CACHE

COLUMNS = (
    Column("space", "space"),
    Column("runtime", "runtime"),
    Column("precision", "precision"),
    Column("measured", "networks measured", 0),
    Column("seconds", "seconds", 0),
    Column("spearman", "Spearman", 4),
    Column("within_10", "within 10 %, %", 0),
    Column("median", "median error, %", 2),
    Column("coverage", "90 % interval holds, %", 0),
    Column("noise", "A/A noise, median %", 2),
    Column("macs_median", "multiply-adds alone: median error, %", 1),
    Column("macs_spearman", "Spearman", 3),
    Column("sum_ratio", "operator sum / measured", 2),
    Column("sum_median", "operator sum: median error, %", 0),
    Column("met", "all bounds kept"),
)
#: Networks whose operators are measured one by one.
SUMMED = 6


def cells(quick: bool) -> list[Cell]:
    """The judged cells, then those of the space with more kinds of choices."""
    runtimes = ("onnxruntime", "openvino")
    if quick:
        return [Cell("unseen u-net", "onnxruntime", precision, True) for precision in ("float32", "int8")]
    judged = [Cell(s, r, p, False) for s in SPACES for r in runtimes for p in ("float32", "int8")]
    return [*judged, *(Cell(MIXED, runtime, "by branch", False) for runtime in runtimes)]


def run(options: Options) -> Result:
    """Every cell, measured or read back."""
    torch.set_num_threads(1)
    progress, rows, details = ConsoleProgress(), [], {}
    for cell in cells(options.quick):
        progress.note(f"{cell.space}, {cell.runtime}, {cell.precision}")
        row, more = run_cell(cell, progress)
        rows.append(row)
        details[cell.name] = more
    judged = [row for row in rows if row["space"] != MIXED]
    return Result((0,), tuple(rows), COLUMNS, claims(judged), NOTE, {"cells": details})


def run_cell(cell: Cell, progress: Progress) -> tuple[dict[str, Any], dict[str, Any]]:
    """One line of the table, and what else is known of it."""
    folder = CACHE / "predictor" / cell.name
    subject = Subject.of(cell)
    found = measure_cell(subject, folder, progress)
    tests_NF = np.asarray([subject.features(selection) for selection in subject.tests])
    predictor = found.profile.predictor
    errors = held_out_errors(predictor.predict(tests_NF), found.test_ms)
    row: dict[str, Any] = {
        "space": cell.space,
        "runtime": cell.runtime,
        "precision": cell.precision,
        "measured": len(found.profile.points),
        "seconds": found.seconds,
        "spearman": errors.spearman,
        "within_10": errors.within_10_percent,
        "median": errors.median_error_percent,
        "coverage": errors.coverage_percent,
        "noise": 100.0 * float(np.median(found.apart_N)),
        "met": keeps_bounds(errors),
        **_macs(subject, found, tests_NF),
        **_sums(subject, found, folder / "operators.jsonl", progress),
    }
    return row, _details(subject, found, tests_NF)


def keeps_bounds(errors: HeldOut) -> bool:
    """All four of the judged bounds."""
    sharp = errors.spearman >= 0.98 and errors.within_10_percent >= 95.0 and errors.median_error_percent <= 3.0
    return bool(sharp and 85.0 <= errors.coverage_percent <= 95.0)


def _macs(subject: Subject, found: Measurements, tests_NF: np.ndarray) -> dict[str, Any]:
    places = [i for i, name in enumerate(found.profile.names) if name in ("total/macs", "total.int8/macs")]
    points = [point for point in found.profile.points if not point.held_out]
    known_N = np.asarray([point.features_F for point in points])[:, places].sum(axis=1)
    ms_N = np.asarray([point.record.p50.value for point in points])
    predicted = macs_only(known_N, ms_N, tests_NF[:, places].sum(axis=1))
    return {"macs_median": _median(predicted, found.test_ms), "macs_spearman": spearman(predicted, found.test_ms)}


def _sums(subject: Subject, found: Measurements, path: Any, progress: Progress) -> dict[str, Any]:
    """The table of operators, for a few of the test networks; not for the mixed space."""
    if subject.cell.space == MIXED:
        return {}
    count = 2 if subject.cell.quick else SUMMED
    chosen = [(selection, subject.graph.cut(selection)) for selection in subject.tests[:count]]
    dialect = "" if subject.cell.precision == "float32" else DIALECTS[subject.cell.runtime]
    config = replace(subject.cell.config, rounds=6, max_rounds=8, round_ms=1.0, warmup_ms=5.0, warmup_cap_ms=50.0)
    sums = operator_sums(chosen, dialect, config, Journal(path), progress)
    truth = found.test_ms[:count]
    return {"sum_ratio": float(np.median(sums / truth)), "sum_median": _median(sums, truth)}


def _median(predicted: np.ndarray, measured: np.ndarray) -> float:
    return 100.0 * float(np.median(np.abs(predicted / measured - 1.0)))


def _details(subject: Subject, found: Measurements, tests_NF: np.ndarray) -> dict[str, Any]:
    """Shape, steps, scores, learning curve, errors by kind of test network, and choice against chance."""
    profile = found.profile
    predicted = profile.predict(tests_NF)
    halves = {"leaning": slice(0, None, 2), "uniform": slice(1, None, 2)}
    return {
        "kind": profile.predictor.kind,
        "third_visits": found.torn,
        "steps": dict(profile.predictor.columns.steps) if profile.predictor.columns else {},
        "scores": dict(profile.predictor.scores),
        "learning": None if profile.learning is None else profile.learning.to_json(len(profile.points)),
        "aa_resolution_percent": profile.self_test.resolution_percent,
        "errors": {
            name: held_out_errors(predicted[half], found.test_ms[half]).to_json() for name, half in halves.items()
        },
        "choice": _choice(subject, profile, tests_NF, found.test_ms),
    }


def _choice(subject: Subject, profile: Profile, tests_NF: np.ndarray, test_ms: np.ndarray) -> Mapping[str, float]:
    """Median error with equally many networks: the first, some of them actively chosen, and those picked by chance."""
    train = [point for point in profile.points if not point.held_out]
    plain = [point for point in train if point.why != "active"]
    if len(plain) in (0, len(train)):
        return {}
    config, names = subject.cell.config, profile.names
    first = fit_points(train[: len(plain)], config, names).values(tests_NF)
    chance = fit_points(plain, config, names).values(tests_NF)
    return {"networks": len(plain), "chosen": _median(first, test_ms), "by chance": _median(chance, test_ms)}


def claims(rows: Sequence[Mapping[str, Any]]) -> tuple[Claim, ...]:
    """Means over the cells, and the share of cells that keep every bound by themselves."""

    def values(key: str) -> list[float]:
        return [float(row[key]) for row in rows]

    return (
        Claim.of("rank correlation on 100 fresh archs, mean over the cells", values("spearman"), "at least", 0.98),
        Claim.of("fresh archs within 10 %, %, mean over the cells", values("within_10"), "at least", 95),
        Claim.of("median error on fresh archs, %, mean over the cells", values("median"), "at most", 3),
        Claim.of("fresh archs inside the 90 % interval, %, mean over the cells", values("coverage"), "at least", 85),
        Claim.of("fresh archs inside the 90 % interval, %, mean over the cells", values("coverage"), "at most", 95),
        Claim.of("cells that keep all of these bounds, %", [100.0 * row["met"] for row in rows], "at least", 100),
    )


NOTE = (
    "Networks with three tasks on images of 96x128, one thread, batch 1. At most 150 networks or five minutes a cell, "
    "a tenth of them held out of the fit; 100 fresh archs, half drawn with every option equally likely, half leaning "
    "to small or to large widths. int8 networks are timing copies. Latencies are medians at the anchor's usual speed. "
    "Every fresh arch is measured before the profile and after it, and a third time where these differ by more than "
    "5 %; the median counts. The A/A noise is the median difference of the first two visits. The table of "
    f"operators measures every node of {SUMMED} networks alone. In the space `{MIXED}` every branch has a precision "
    "and the image one of three sizes beside the widths; its features are read off the files, and it is not among the "
    "judged cells."
)
