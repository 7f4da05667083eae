"""Energy of one inference: its own loop of seconds, apart from latency, between two windows of doing nothing.

Counters see the whole supply, so the mean power of the idle windows around a loop is subtracted; the gross number is
given too. Python 3.8, standard library only.
"""

from __future__ import annotations

import time
from typing import Any, Callable

from .counters import find_counter


def energy_repeats(
    call: Callable[[], Any],
    counter: Any,
    repeats: int,
    loop_s: float,
    idle_s: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> list[dict[str, float]]:
    """Idle, loop, idle, loop, ..., idle.

    Returns:
        One row a loop: `runs`, `seconds`, `gross_mj` per run, `idle_w` around it, `net_mj` per run.
    """
    idle_w, loops = [_idle_w(counter, idle_s, clock, sleep)], []
    for _ in range(repeats):
        loops.append(_loop(call, counter, loop_s, clock))
        idle_w.append(_idle_w(counter, idle_s, clock, sleep))
    rows = []
    for place, (runs, seconds, spent_mj) in enumerate(loops):
        around_w = (idle_w[place] + idle_w[place + 1]) / 2.0
        net_mj = spent_mj - 1e3 * around_w * seconds
        row = {"runs": runs, "seconds": seconds, "gross_mj": spent_mj / runs, "idle_w": around_w}
        rows.append(dict(row, net_mj=net_mj / runs))
    return rows


def measure_energy(
    job: dict[str, Any], emit: Callable[[dict[str, Any]], None], opened: Callable[[str], Callable[[], Any]]
) -> None:
    """The job `energy`: one record a model, or one that says that there is no counter.

    Args:
        job: `models`, `runtime`, `repeats`, `loop_s`, `idle_s`; `root` for tests.
        emit: takes the records.
        opened: opens and warms up the network at a path and gives the call that runs it.
    """
    counter, looked = find_counter(job["runtime"], job.get("root", "/"))
    if counter is None:
        emit({"event": "energy-absent", "looked_for": looked})
        return
    for name, path in job["models"].items():
        rows = energy_repeats(opened(path), counter, job["repeats"], job["loop_s"], job["idle_s"])
        emit({"event": "energy", "name": name, "counter": counter.kind, "rails": counter.rails, "repeats": rows})


def _loop(call: Callable[[], Any], counter: Any, loop_s: float, clock: Callable[[], float]) -> tuple[int, float, float]:
    """(runs, seconds, millijoules)."""
    runs, start = 0, clock()
    counter.begin()
    while clock() - start < loop_s:
        call()
        runs += 1
    return runs, clock() - start, counter.end()


def _idle_w(counter: Any, idle_s: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> float:
    start = clock()
    counter.begin()
    sleep(idle_s)
    seconds = clock() - start
    return float(counter.end()) / 1e3 / seconds
