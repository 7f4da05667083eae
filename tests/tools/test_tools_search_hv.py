"""The search benchmark: shared evaluations that survive, equal budgets, gains paired by seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "search"))

from search_toys import toy_evaluate, toy_problem  # noqa: E402

from mtnas.base.errors import JobError  # noqa: E402
from mtnas.job.read import read_job  # noqa: E402
from mtnas.search.objectives import Constraint  # noqa: E402
from mtnas.search.trial import Outcome  # noqa: E402
from mtnas.space.arch import Arch  # noqa: E402
from tools.bench.evaluations import SharedEvaluations  # noqa: E402
from tools.bench.record import Options  # noqa: E402
from tools.bench.runs import opened  # noqa: E402
from tools.bench.search_hv import STRATEGIES, Race, claims, details, note, run  # noqa: E402

SEEDS = (0, 1, 2)


class Counting:
    """The toy, counting how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, arch: Arch) -> Outcome:
        self.asked.append(arch.id)
        return toy_evaluate(arch)


def race(path: Path, evaluate: Counting) -> Race:
    problem = toy_problem(constraints=[Constraint("latency_ms", 3.5)])
    return Race(problem, SharedEvaluations(evaluate, path), trials=24, population=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counting, Race, tuple[dict, ...]]:
    path, counting = tmp_path_factory.mktemp("cache") / "evaluations.jsonl", Counting()
    made = race(path, counting)
    return path, counting, made, made.run(SEEDS)


def test_lines_share_evaluations_and_a_second_run_makes_none(
    finished: tuple[Path, Counting, Race, tuple[dict, ...]],
) -> None:
    path, counting, _, rows = finished
    assert len(counting.asked) == len(set(counting.asked)) == len(path.read_text().splitlines())
    again = Counting()
    assert race(path, again).run(SEEDS) == rows and again.asked == []


def test_an_interrupted_run_goes_on(finished: tuple[Path, Counting, Race, tuple[dict, ...]], tmp_path: Path) -> None:
    path, counting, _, rows = finished
    lines = path.read_text().splitlines(keepends=True)
    torn = tmp_path / "evaluations.jsonl"
    torn.write_text("".join(lines[:40]) + lines[40][:30])
    again = Counting()
    assert race(torn, again).run(SEEDS) == rows
    assert again.asked == counting.asked[40:]


def test_every_line_has_the_same_number_of_evaluations(
    finished: tuple[Path, Counting, Race, tuple[dict, ...]],
) -> None:
    _, _, made, rows = finished
    assert [(row["strategy"], row["seed"]) for row in rows] == [(name, seed) for name in STRATEGIES for seed in SEEDS]
    assert {row["evaluations"] for row in rows} == {24}
    assert made.reference["latency_ms"] == 3.5
    for row in rows:
        history = made.lines[row["strategy"]][row["seed"]]
        rival = made.lines["random"][row["seed"]][-1]
        mean = fmean(line[-1] for line in made.lines["random"].values())
        assert row["hypervolume"] == pytest.approx(100 * history[-1] / made.box)
        expected = None if row["strategy"] == "random" else pytest.approx(100 * (history[-1] - rival) / mean)
        assert row["gain_percent"] == expected


def test_texts_state_the_reference_and_can_be_written(
    finished: tuple[Path, Counting, Race, tuple[dict, ...]],
) -> None:
    _, _, made, _ = finished
    text = note(made, read_job(None))
    assert "Reference point: " in text and "latency_ms 3.5" in text and "latency_ms <= 3.5" in text
    found = json.loads(json.dumps(details(made), allow_nan=False))
    assert found["compare"]["lines"]["nsga2"]["gain_percent"]["count"] == 3


def test_claims_are_paired_and_never_divide_by_nothing() -> None:
    lines = {"nsga2": {0: [0.0, 2.0], 1: [1.0, 3.0], 2: [1.0, 4.4]}, "random": {0: [0, 1.0], 1: [0, 2.0], 2: [0, 0.0]}}
    (claim,) = claims(lines)
    assert claim.value == pytest.approx(100 * (1.0 + 1.0 + 4.4) / 3 / 1.0) and claim.count == 3
    assert claim.target == "more than 0" and claim.met is False  # three seeds that differ so much prove nothing
    lines["nsga2"][2] = [0.0, 1.1]
    assert claims(lines)[0].met is True
    lines["random"] = {seed: [0.0, 0.0] for seed in range(3)}
    (claim,) = claims(lines)
    assert claim.count == 0 and claim.met is None and claim.value is None


def test_runs_without_what_is_needed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1-space").mkdir()
    (tmp_path / "1-space" / "stage.json").write_text("{}")
    with pytest.raises(JobError, match="received: train, profile not finished"):
        opened(tmp_path, ("space", "train", "profile"))
    with pytest.raises(JobError, match="space, train, profile not finished"):
        run(Options(run=tmp_path / "none"))
