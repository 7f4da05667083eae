"""The exam of every search strategy: rows of the table are found and examined by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtnas.base.errors import PackageMissing
from mtnas.base.optional import available
from mtnas.base.quantity import Counted
from mtnas.search.config import SearchConfig
from mtnas.search.loop import make_strategy, search
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.problem import Problem
from mtnas.search.strategies.table import EXTRAS, STRATEGIES
from mtnas.search.trial import Outcome, Trial
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

SPACE = Space(
    (
        Choice("stem", (8,), "width", ("a", "b")),
        Choice("trunk", (8, 16, 24, 32), "width", ("a", "b")),
        Choice("blocks", (1, 2, 3), "depth", ("a", "b")),
        Choice("operator", ("depthwise", "full"), "operator", ("a", "b")),
        Choice("head_a", (8, 16, 24, 32), "width", ("a",)),
        Choice("head_b", (8, 16, 24, 32), "width", ("b",)),
    )
)
SEED = 11
TRIALS = 40


def evaluate(arch: Arch) -> Outcome:
    cost = float(arch["trunk"]) * float(arch["blocks"]) * (2 if arch["operator"] == "full" else 1)
    cost += float(arch["head_a"]) + float(arch["head_b"])
    a = float(arch["trunk"]) * float(arch["blocks"]) + 3 * float(arch["head_a"])
    b = float(arch["trunk"]) + 5 * float(arch["head_b"]) + (20 if arch["operator"] == "full" else 0)
    return Outcome({"a": a, "b": -b, "cost": cost}, {"macs": Counted(cost, "MACs")})


def problem(limit: float | None = None) -> Problem:
    objectives = (Objective("a", higher_is_better=True), Objective("b"), Objective("cost"))
    return Problem(SPACE, objectives, (Constraint("macs", limit),) if limit is not None else ())


def config(name: str, trials: int = TRIALS) -> SearchConfig:
    return SearchConfig(strategy=name, trials=trials, population=8)


def bare(trials: tuple[Trial, ...]) -> list[tuple[object, ...]]:
    """Trials without their wall-clock time."""
    return [(t.number, t.arch, t.outcome, t.violations, t.strategy, t.origin) for t in trials]


@pytest.fixture(params=sorted(STRATEGIES))
def name(request: pytest.FixtureRequest) -> str:
    strategy: str = request.param
    if strategy in EXTRAS and not available(EXTRAS[strategy]):
        pytest.skip(f"the extra {EXTRAS[strategy]!r} is not installed")
    return strategy


@pytest.mark.parametrize("strategy", sorted(EXTRAS))
def test_without_its_package_a_strategy_says_what_to_install(strategy: str) -> None:
    if available(EXTRAS[strategy]):
        pytest.skip(f"the extra {EXTRAS[strategy]!r} is installed")
    with pytest.raises(PackageMissing, match=rf"mtnas\[{EXTRAS[strategy]}\]"):
        make_strategy(problem(), config(strategy), SEED)


def test_asks_only_valid_archs_and_never_more_than_wanted(name: str) -> None:
    strategy = make_strategy(problem(60.0), config(name), SEED)
    strategy.tell([problem(60.0).trial(0, SPACE.largest, evaluate(SPACE.largest))])
    for number in range(1, 30):
        asked = strategy.ask(3)
        assert 1 <= len(asked) <= 3
        for arch in asked:
            SPACE.check(arch)
            assert SPACE.decode(SPACE.encode([arch])) == [arch]
        strategy.tell([problem(60.0).trial(number, arch, evaluate(arch)) for arch in asked])


def test_equal_seeds_give_equal_trials_and_other_seeds_do_not(name: str, tmp_path: Path) -> None:
    first = search(problem(60.0), evaluate, config(name), tmp_path / "a.jsonl", seed=SEED)
    again = search(problem(60.0), evaluate, config(name), tmp_path / "b.jsonl", seed=SEED)
    other = search(problem(60.0), evaluate, config(name), tmp_path / "c.jsonl", seed=SEED + 1)
    assert bare(first) == bare(again)
    assert bare(first) != bare(other)


@pytest.mark.parametrize("stopped_after", [1, 2, 9, 27])
def test_resumed_equals_uninterrupted_and_repeats_nothing(name: str, tmp_path: Path, stopped_after: int) -> None:
    whole = search(problem(60.0), evaluate, config(name), tmp_path / "whole.jsonl", seed=SEED)
    part = tmp_path / "part.jsonl"
    search(problem(60.0), evaluate, config(name, max(2, stopped_after)), part, seed=SEED)
    evaluated: list[Arch] = []

    def counting(arch: Arch) -> Outcome:
        evaluated.append(arch)
        return evaluate(arch)

    resumed = search(problem(60.0), counting, config(name), part, seed=SEED)
    assert bare(resumed) == bare(whole)
    assert evaluated == [trial.arch for trial in whole[max(2, stopped_after) :]]


def test_no_arch_twice_and_extremes_first(name: str, tmp_path: Path) -> None:
    trials = search(problem(), evaluate, config(name), tmp_path / "t.jsonl", seed=SEED)
    assert len({trial.arch for trial in trials}) == len(trials) == TRIALS
    assert [trial.arch for trial in trials[:2]] == [SPACE.largest, SPACE.smallest]


def test_survives_when_nothing_is_feasible(name: str, tmp_path: Path) -> None:
    trials = search(problem(1e-3), evaluate, config(name), tmp_path / "t.jsonl", seed=SEED)
    assert len(trials) == TRIALS
    assert not any(trial.feasible for trial in trials)


def test_walks_a_whole_small_space_and_stops(name: str, tmp_path: Path) -> None:
    small = Space(
        (Choice("stem", (8, 16)), Choice("operator", ("depthwise", "full"), "operator"), Choice("head", (8, 16, 24)))
    )
    tiny = Problem(small, (Objective("x", higher_is_better=True),))

    def width(arch: Arch) -> Outcome:
        return Outcome({"x": float(arch["stem"]) + float(arch["head"])})

    trials = search(tiny, width, config(name, 50), tmp_path / "t.jsonl", seed=SEED)
    assert len({trial.arch for trial in trials}) == len(trials) == 12


def test_learns_from_trials_it_did_not_ask_for(name: str) -> None:
    strategy = make_strategy(problem(60.0), config(name), SEED)
    rng_archs = SPACE.decode(SPACE.encode([SPACE.largest, SPACE.smallest, *SPACE.neighbours(SPACE.smallest)]))
    strategy.tell([problem(60.0).trial(n, arch, evaluate(arch)) for n, arch in enumerate(rng_archs)])
    assert strategy.ask(1)
