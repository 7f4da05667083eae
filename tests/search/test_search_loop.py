"""The loop: durability, refusal of foreign journals, duplicates, early ends, bad evaluations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from search_toys import toy_evaluate, toy_problem, toy_space

from mtnas.base.errors import CheckpointError, JobError, ModelError
from mtnas.base.journal import Journal
from mtnas.base.progress import Silent
from mtnas.search.config import SearchConfig
from mtnas.search.journal import read_trials
from mtnas.search.loop import reuse, search
from mtnas.search.objectives import Constraint, Objective
from mtnas.search.problem import Problem
from mtnas.search.trial import Outcome, Trial
from mtnas.space.arch import Arch
from mtnas.space.choice import Choice
from mtnas.space.space import Space

CONFIG = SearchConfig(trials=40, population=8)


def bare(trials: tuple[Trial, ...]) -> list[tuple[object, ...]]:
    return [(t.number, t.arch, t.outcome, t.violations, t.strategy, t.origin) for t in trials]


CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {folder!r})
    from search_toys import toy_evaluate, toy_problem
    from mtnas.search.config import SearchConfig
    from mtnas.search.loop import search
    from mtnas.search.objectives import Constraint

    def slow(arch):
        with open({log!r}, "a") as stream:
            stream.write(arch.id + "\\n")
        time.sleep(0.01)
        return toy_evaluate(arch)

    problem = toy_problem(constraints=[Constraint("latency_ms", 4.0)])
    search(problem, slow, SearchConfig(trials=40, population=8), Path({journal!r}), seed=3)
    """
)


def test_killed_at_any_moment_resumes_to_the_same_trials(tmp_path: Path) -> None:
    problem = toy_problem(constraints=[Constraint("latency_ms", 4.0)])
    whole = search(problem, toy_evaluate, CONFIG, tmp_path / "whole.jsonl", seed=3)
    journal, log = tmp_path / "killed.jsonl", tmp_path / "evaluated.txt"
    code = CHILD.format(folder=str(Path(__file__).parent), log=str(log), journal=str(journal))
    kills = 0
    for lines_before_kill in (3, 11, 26):
        child = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines_before_kill:
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        child.wait()
    assert kills == 3
    with journal.open("ab") as stream:
        stream.write(b'{"number": 99, "arch": {"g0"')  # what a power cut in the middle of a write leaves
    subprocess.run([sys.executable, "-c", code], check=True)
    assert bare(search(problem, _never, CONFIG, journal, seed=3)) == bare(whole)
    evaluated = log.read_text(encoding="utf-8").split()
    assert set(evaluated) == {trial.arch.id for trial in whole}
    assert len(evaluated) <= len(whole) + kills  # a kill costs at most the evaluation that was running


def _never(arch: Arch) -> Outcome:
    raise AssertionError(f"{arch.id} was evaluated again")


def test_a_finished_search_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first = search(toy_problem(), toy_evaluate, CONFIG, path, seed=0)
    before = path.read_bytes()
    assert search(toy_problem(), _never, CONFIG, path, seed=0) == first
    assert path.read_bytes() == before
    by_id = [(t.number, t.arch.id, t.outcome) for t in read_trials(path)]
    assert by_id == [(t.number, t.arch.id, t.outcome) for t in first]


def test_every_record_is_on_disk_before_the_next_evaluation(tmp_path: Path) -> None:
    path, calls = tmp_path / "t.jsonl", []

    def watching(arch: Arch) -> Outcome:
        calls.append(arch)
        assert len(Journal(path).records()) == len(calls)  # header + all trials before this one
        return toy_evaluate(arch)

    search(toy_problem(), watching, CONFIG, path, seed=0)


def test_more_trials_later_equal_more_trials_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    search(toy_problem(), toy_evaluate, SearchConfig(trials=13, population=8), path, seed=0)
    extended = search(toy_problem(), toy_evaluate, CONFIG, path, seed=0)
    assert bare(extended) == bare(search(toy_problem(), toy_evaluate, CONFIG, tmp_path / "once.jsonl", seed=0))


@pytest.mark.parametrize(
    ("what", "problem", "config", "seed"),
    [
        ("seed", toy_problem(), CONFIG, 1),
        ("space", toy_problem(toy_space(5)), CONFIG, 0),
        ("constraints", toy_problem(constraints=[Constraint("params", 9.0)]), CONFIG, 0),
        ("strategy", toy_problem(), SearchConfig(strategy="random", trials=40, population=8), 0),
        ("population", toy_problem(), SearchConfig(trials=40, population=9), 0),
        ("objectives", Problem(toy_space(), (Objective("depth"),)), CONFIG, 0),
    ],
)
def test_a_journal_of_another_search_is_refused(
    tmp_path: Path, what: str, problem: Problem, config: SearchConfig, seed: int
) -> None:
    path = tmp_path / "t.jsonl"
    search(toy_problem(), toy_evaluate, SearchConfig(trials=3, population=8), path, seed=0)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"{what} = ") as caught:
        search(problem, _never, config, path, seed=seed)
    assert str(path) in str(caught.value) and "--out" in str(caught.value)
    assert path.read_bytes() == before


def test_damaged_journals_are_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    search(toy_problem(), toy_evaluate, SearchConfig(trials=6, population=8), path, seed=0)
    lines = path.read_bytes().splitlines(keepends=True)
    swapped = [*lines[:3], lines[4], lines[3], *lines[5:]]
    for text, place in (
        (b"".join(swapped), ":4"),
        (b"".join([*lines[:2], b'{"number": 1}\n', *lines[3:]]), ":3"),
        (b"".join([*lines[:2], b"garbage\n", *lines[3:]]), ":3"),
        (b"".join(lines[1:]), "schema"),
    ):
        path.write_bytes(text)
        with pytest.raises(CheckpointError, match=place):
            search(toy_problem(), toy_evaluate, CONFIG, path, seed=0)


def test_a_recorded_arch_that_would_not_be_proposed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    trials = search(toy_problem(), toy_evaluate, SearchConfig(trials=4, population=8), path, seed=0)
    lines = path.read_bytes().splitlines(keepends=True)
    other = next(a for a in toy_space().neighbours(trials[3].arch) if a not in {t.arch for t in trials})
    forged = toy_problem().trial(3, other, toy_evaluate(other))
    path.write_bytes(b"".join(lines[:4]))
    Journal(path).append(forged.to_json())
    with pytest.raises(CheckpointError, match="now proposes"):
        search(toy_problem(), toy_evaluate, CONFIG, path, seed=0)


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_small_space_ends_early_and_says_so(tmp_path: Path) -> None:
    notes = Notes()
    space = Space((Choice("a", (1, 2, 3)), Choice("b", (1, 2))))
    problem = Problem(space, (Objective("x"),))
    trials = search(
        problem, lambda arch: Outcome({"x": float(arch["a"])}), CONFIG, tmp_path / "t", seed=0, progress=notes
    )
    assert {t.arch for t in trials} == set(space.decode(space.encode([t.arch for t in trials]))) and len(trials) == 6
    assert len(notes.notes) == 1 and "all 6 networks" in notes.notes[0]


def test_a_space_of_one_network(tmp_path: Path) -> None:
    problem = Problem(Space((Choice("a", (8,)),)), (Objective("x"),))
    assert len(search(problem, lambda arch: Outcome({"x": 1.0}), CONFIG, tmp_path / "t", seed=0)) == 1


def test_a_failing_evaluation_loses_nothing_before_it(tmp_path: Path) -> None:
    path, calls = tmp_path / "t.jsonl", []

    def failing(arch: Arch) -> Outcome:
        calls.append(arch)
        if len(calls) == 8:
            raise RuntimeError("device gone")
        return toy_evaluate(arch)

    with pytest.raises(RuntimeError, match="device gone"):
        search(toy_problem(), failing, CONFIG, path, seed=0)
    assert len(read_trials(path)) == 7
    resumed = search(toy_problem(), toy_evaluate, CONFIG, path, seed=0)
    assert bare(resumed) == bare(search(toy_problem(), toy_evaluate, CONFIG, tmp_path / "w", seed=0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_nan_objective_is_named(tmp_path: Path, value: float) -> None:
    def broken(arch: Arch) -> Outcome:
        return Outcome({**toy_evaluate(arch).objectives, "depth": value})

    with pytest.raises(ModelError, match=r"depth = (nan|inf)"):
        search(toy_problem(), broken, CONFIG, tmp_path / "t", seed=0)


def test_missing_objective_or_cost_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="latency_ms"):
        search(toy_problem(), lambda arch: Outcome({"depth": 1.0, "segmentation": 1.0}), CONFIG, tmp_path / "t", seed=0)
    problem = toy_problem(constraints=[Constraint("energy_mj", 1.0)])
    with pytest.raises(ModelError, match="energy_mj"):
        search(problem, toy_evaluate, CONFIG, tmp_path / "u", seed=0)


def test_lines_share_evaluations(tmp_path: Path) -> None:
    trials = search(toy_problem(), toy_evaluate, CONFIG, tmp_path / "t", seed=0)
    line = CONFIG.random_line()
    assert line is not None and line.trials == CONFIG.trials and line.strategy == "random"
    evaluated: list[Arch] = []

    def counting(arch: Arch) -> Outcome:
        evaluated.append(arch)
        return toy_evaluate(arch)

    random = search(toy_problem(), reuse(trials, counting), line, tmp_path / "r", seed=0)
    assert len(random) == 40
    assert not {trial.arch for trial in trials} & set(evaluated)
    assert len(evaluated) <= 38  # at least the extremes were shared


def test_archs_that_are_one_network_are_evaluated_once(tmp_path: Path) -> None:
    """As widths inside a skipped block: the outcome of the first is every other's, also after an interruption."""
    evaluated: list[tuple[object, ...]] = []

    def network(arch: Arch) -> tuple[object, ...]:
        return tuple(option for name, option in arch.options if name not in ("g0", "g1", "g2", "g3"))

    def noisy(arch: Arch) -> Outcome:
        evaluated.append(network(arch))
        return Outcome({**toy_evaluate(arch).objectives, "latency_ms": float(len(evaluated))})

    whole = search(toy_problem(), noisy, CONFIG, tmp_path / "whole", seed=0, same=network)
    assert len(whole) == 40 and len({trial.arch for trial in whole}) == 40
    assert len(evaluated) == len(set(evaluated)) == len({network(trial.arch) for trial in whole}) < 40
    outcomes: dict[tuple[object, ...], Outcome] = {}
    assert all(outcomes.setdefault(network(trial.arch), trial.outcome) == trial.outcome for trial in whole)
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    (tmp_path / "part").write_text("".join(lines[:30]))
    known = {network(trial.arch) for trial in whole[:29]}
    evaluated.clear()
    search(toy_problem(), noisy, CONFIG, tmp_path / "part", seed=0, same=network)
    assert not known & set(evaluated)


def test_evolution_beats_random_on_the_toy(tmp_path: Path) -> None:
    from mtnas.search.front import hypervolume_history

    problem = toy_problem(toy_space(8), constraints=[Constraint("latency_ms", 6.0)])
    reference = {"segmentation": 0.0, "depth": 1.0, "latency_ms": 12.0}
    gains = []
    for seed in range(3):
        config = SearchConfig(trials=120, population=16)
        line = config.random_line()
        assert line is not None
        ours = search(problem, toy_evaluate, config, tmp_path / f"n{seed}", seed=seed)
        rival = search(problem, toy_evaluate, line, tmp_path / f"r{seed}", seed=seed)
        ends = [hypervolume_history(problem, trials, reference)[-1] for trials in (ours, rival)]
        gains.append(ends[0] - ends[1])
    assert min(gains) > 0


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"strategy": "nsga3"}, "did you mean 'nsga2'"),
        ({"trials": 1}, r"search\.trials"),
        ({"population": 1}, r"search\.population"),
        ({"measure_front": 0}, r"search\.measure_front"),
        ({"random_trials": -1}, r"search\.random_trials"),
    ],
)
def test_wrong_configurations(fields: dict[str, object], where: str) -> None:
    with pytest.raises(JobError, match=where):
        SearchConfig(**fields)  # type: ignore[arg-type]


def test_no_random_line_when_none_is_wanted() -> None:
    assert SearchConfig(random_trials=0).random_line() is None
    line = SearchConfig(trials=80, random_trials=20).random_line()
    assert line is not None and line.trials == 20
