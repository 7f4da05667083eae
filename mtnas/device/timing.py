"""Timing: single runs, warming up, and one round in which every network takes its turn."""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import Mapping

import numpy as np

from .inputs import Call

try:
    import resource
except ImportError:  # a system without it
    resource = None  # type: ignore[assignment]


def interruptions() -> int:
    """How often the system took the processor away from this process; 0 where it does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0


def time_runs(call: Call, count: int) -> tuple[list[float], list[int]]:
    """Milliseconds of each of `count` runs, and the places of those that were interrupted.

    A call that has a clock of its own (`timed`, as on a GPU) is timed by that one, where interruptions do not count.
    """
    timed = getattr(call, "timed", None)
    if timed is not None:
        return list(timed(count)), []
    clock, times, places = time.perf_counter_ns, [], []
    seen = interruptions()
    for place in range(count):
        start = clock()
        call()
        times.append((clock() - start) / 1e6)
        now = interruptions()
        if now != seen:
            places.append(place)
        seen = now
    return times, places


def warm_up(call: Call, least_s: float = 0.05, most_s: float = 1.0, tolerance: float = 0.02) -> tuple[float, bool]:
    """Run until time has passed and the last three blocks agree; returns (milliseconds of one run, settled)."""
    start, blocks, count = time.perf_counter(), [], 1
    while True:
        times, _ = time_runs(call, count)
        blocks.append(statistics.median(times))
        if sum(times) < 5.0:
            count = min(count * 2, 1024)
        passed = time.perf_counter() - start
        last = blocks[-3:]
        settled = len(last) == 3 and max(last) - min(last) <= tolerance * min(last)
        if passed >= least_s and (settled or passed >= most_s):
            return last[-1], settled


def runs_for(run_ms: float, round_ms: float, least: int, most: int) -> int:
    """How many runs fill a round."""
    return int(min(most, max(least, np.ceil(round_ms / max(run_ms, 1e-6)))))


def one_round(
    calls: Mapping[str, Call], counts: Mapping[str, int], rng: random.Random
) -> dict[str, tuple[list[float], list[int]]]:
    """Every network once, in shuffled order: what `time_runs` says of each. One untimed run refills caches."""
    names = sorted(calls)
    rng.shuffle(names)
    collecting = gc.isenabled()
    gc.disable()
    try:
        times = {}
        for name in names:
            calls[name]()
            times[name] = time_runs(calls[name], counts[name])
        return times
    finally:
        if collecting:
            gc.enable()
