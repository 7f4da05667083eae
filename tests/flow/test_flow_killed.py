"""A run that is killed in every long stage: the same command finishes it, and nothing is done twice."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny import FinishedRun, finish, lines, records, stages_with, start, stop_when

from mtnas.base.files import file_hash

#: where to kill: journal of the stage, and the lines it must have by then
MOMENTS = {
    "train": ("2-train/curves.jsonl", 4),
    "profile": ("3-profile/device/measurements.jsonl", 4),
    "search": ("4-search/trials.jsonl", 4),
    "prune": ("5-prune/steps.jsonl", 2),
    "finetune": ("5-prune/finetune/curves.jsonl", 2),
}
#: journals that must only have grown
APPENDED = [MOMENTS[name][0] for name in ("profile", "search", "prune")]


@dataclass(frozen=True)
class Killed:
    """The finished folder, and each journal as it was when its stage was killed."""

    path: Path
    then: dict[str, bytes]
    curves: list[dict[str, float]]


@pytest.fixture(scope="module")
def killed(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    run = finished.copy(folder / "run", upto="space")
    command = ("run", finished.job, "--out", run)
    then = {}
    for journal, count in MOMENTS.values():
        path = run / journal
        done = stop_when(
            start(*command, scratch=folder), lambda path=path, count=count: lines(path) >= count, signal.SIGKILL
        )
        assert done.code == -signal.SIGKILL
        then[journal] = path.read_bytes()
        assert not (path.parent / "stage.json").exists()
        assert not (run / "DONE").exists()
    done = finish(start(*command, scratch=folder))
    assert done.code == 0, done.err
    return Killed(run, then, records(run / "2-train/curves.jsonl"))


def test_the_same_command_finishes(killed: Killed) -> None:
    assert json.loads((killed.path / "8-verify/certificate.json").read_text())["met"]
    assert (killed.path / "DONE").exists()
    assert not (killed.path / "FAILED.json").exists()
    assert not list(killed.path.glob("*superseded*"))


def test_weights_equal_those_of_an_uninterrupted_training(killed: Killed, finished: FinishedRun) -> None:
    name = "2-train/weights.safetensors"
    assert file_hash(killed.path / name) == file_hash(finished.path / name)


def test_curves_have_neither_gaps_nor_repeats(killed: Killed) -> None:
    for name in ("2-train", "5-prune/finetune"):
        steps = [record["step"] for record in records(killed.path / name / "curves.jsonl")]
        assert steps == list(range(1, len(steps) + 1))
    assert len(records(killed.path / "2-train/curves.jsonl")) == 3 * 4 * 64 // 16


@pytest.mark.parametrize("journal", APPENDED)
def test_what_was_measured_or_evaluated_is_kept(killed: Killed, journal: str) -> None:
    whole_lines = killed.then[journal][: killed.then[journal].rfind(b"\n") + 1]
    assert (killed.path / journal).read_bytes().startswith(whole_lines)


def test_nothing_is_measured_or_evaluated_twice(killed: Killed) -> None:
    search = records(killed.path / "4-search/trials.jsonl")[1:]
    assert [trial["number"] for trial in search] == list(range(8))
    assert len({trial["id"] for trial in search}) == 8
    points = [r for r in records(killed.path / "3-profile/device/measurements.jsonl") if r["kind"] == "latency"]
    assert len({json.dumps(point["selection"], sort_keys=True) for point in points}) == len(points) == 14
    steps = records(killed.path / "5-prune/steps.jsonl")[1:]
    assert [step["number"] for step in steps] == list(range(len(steps)))


def test_the_same_network_has_the_same_scores(killed: Killed, finished: FinishedRun) -> None:
    ours, theirs = (
        {trial["id"]: trial["scores"] for trial in records(run / "4-search/trials.jsonl")[1:]}
        for run in (killed.path, finished.path)
    )
    common = ours.keys() & theirs.keys()
    assert len(common) >= 2
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


def test_events_tell_each_start_and_one_end(killed: Killed) -> None:
    starts, ends = stages_with(killed.path, "start"), stages_with(killed.path, "end")
    assert starts.count("train") == 2
    assert starts.count("prune") == 3
    assert sorted(ends) == sorted(set(ends))


def test_no_temporary_files_stay(killed: Killed) -> None:
    assert not list(killed.path.rglob("*.tmp"))
