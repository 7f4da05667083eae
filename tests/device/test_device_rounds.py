"""The rounds loop by itself, on calls whose time is told by a script: when networks leave, restart, or are given up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mtnas.base.machine import cpu_info
from mtnas.device import rounds
from mtnas.device.machine import environment
from mtnas.device.order import quantile_interval, round_median
from mtnas.device.rounds import Lane, Rules, settle_each, settle_together
from mtnas.device.session import Results, unfinished
from mtnas.measure.runs import Runs

RULES = Rules(rounds=4, max_rounds=8, interval_percent=1.0, confidence=0.9)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Iterator[float]]:
    """Milliseconds of each network's next round."""
    times: dict[str, Iterator[float]] = {}

    def one_round(calls: dict, counts: dict, rng: random.Random) -> dict:
        return {name: ([next(times[name])] * 3, []) for name in calls}

    monkeypatch.setattr(rounds, "one_round", one_round)
    return times


def lane(name: str) -> Lane:
    return Lane(name, lambda: None, 3)


def steady(value: float) -> Iterator[float]:
    while True:
        yield value


def noisy(value: float, seed: int = 0) -> Iterator[float]:
    rng = random.Random(seed)
    while True:
        yield value * (1 + rng.random())


def test_quiet_networks_leave_early_and_noisy_ones_at_the_cap(told: dict) -> None:
    told.update(anchor=steady(1.0), quiet=steady(2.0), loud=noisy(2.0))
    found = list(settle_each(lane("anchor"), [lane("quiet"), lane("loud")], RULES, random.Random(0)))
    assert [(each.name, len(each.runs_ms)) for each in found] == [("quiet", 4), ("loud", 8)]
    assert found[0].note == "" and "no narrower after 8 rounds" in found[1].note
    assert found[0].state["before"] and found[0].state["after"]


def test_a_moving_anchor_starts_a_network_again_once(told: dict) -> None:
    told.update(anchor=iter([1.0, 1.0, 1.2, 1.2, *[1.2] * 4]), net=steady(2.0))
    (found,) = settle_each(lane("anchor"), [lane("net")], RULES, random.Random(0))
    assert found.restarts == 1 and len(found.runs_ms) == 4 and found.note == ""
    told.update(anchor=(1.1**i for i in range(99)), net=steady(2.0))
    (found,) = settle_each(lane("anchor"), [lane("net")], RULES, random.Random(0))
    assert found.restarts == 1 and "the anchor moved" in found.note


def test_together_all_have_the_rounds_that_the_judged_need(told: dict) -> None:
    told.update(first=steady(1.0), loud=noisy(1.0))
    lanes, seen = [lane("first"), lane("loud")], []
    settle_together(lanes, ["first"], RULES, random.Random(0), lambda: seen.append(1))
    assert [len(each.runs_ms) for each in lanes] == [4, 4] and len(seen) == 4
    told.update(first=steady(1.0), loud=noisy(1.0))
    lanes = [lane("first"), lane("loud")]
    settle_together(lanes, ["first", "loud"], RULES, random.Random(0))
    assert [len(each.runs_ms) for each in lanes] == [8, 8]


def test_a_rounds_median_is_that_of_the_host() -> None:
    rng = np.random.default_rng(0)
    for hit in (0, 2, 5, 6):
        runs = rng.random(7)
        places = sorted(rng.choice(7, hit, replace=False).tolist())
        assert round_median(runs.tolist(), places) == pytest.approx(Runs.of([runs], [places]).medians_R[0])


def test_the_interval_of_the_median_is_that_of_the_binomial_table() -> None:
    values = list(range(1, 11))  # n = 10: the 2nd and the 9th sample hold the median with 97.9 %
    assert quantile_interval(values, 0.5, 0.95) == (2.0, 9.0)
    assert quantile_interval([1.0, 2.0], 0.5, 0.95) == (1.0, 2.0)


def test_the_device_says_of_itself_what_the_host_would() -> None:
    told, here = environment("onnxruntime", "1"), cpu_info()
    assert (told["cpu"], told["features"], told["cores"]) == (here["model"], here["features"], here["cores"])


@pytest.fixture
def job() -> Callable[..., dict]:
    return lambda **more: {"models": {"a": "1", "b": "2", "anchor": "3"}, "keys": {"a": "ka", "b": "kb"}, **more}


def test_what_is_done_is_left_out(job: Callable[..., dict]) -> None:
    assert set(unfinished(job(anchor="anchor"), {"ka"})["models"]) == {"b", "anchor"}
    assert set(unfinished(job(), {"ka"})["models"]) == {"a", "b", "anchor"}  # side by side: all or nothing
    assert unfinished(job(anchor="anchor"), {"ka", "kb"})["models"] == {}


def test_a_torn_line_is_cut_off_and_what_stands_before_it_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Results(str(path))
    first.add([{"event": "latency", "name": "a"}], {"a": "ka"})
    first.add([{"event": "latency", "name": "b"}, {"event": "latency", "name": "c"}], {"b": "kb", "c": "kc"})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "latency", "na')
    again = Results(str(path))
    assert again.keys == {"ka", "kb", "kc"}
    again.add([{"event": "done"}])
    lines = path.read_bytes()
    assert lines.startswith(whole) and json.loads(lines[len(whole) :]) == {"event": "done"}
