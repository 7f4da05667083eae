"""Running a finished job again: what is unchanged is skipped, what is changed is done again beside the old."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import FinishedRun, assert_told, failure, mtnas, records, stages_with

from mtnas.flow import STAGES
from mtnas.stages.folder import FOLDERS

BEFORE_SEARCH = ["space", "train", "profile"]


def last_run(run: Path, event: str, known: int) -> list[str]:
    """Stages with this event since there were `known` records."""
    return [record["stage"] for record in records(run / "events.jsonl")[known:] if record["event"] == event]


def test_a_finished_run_is_skipped_whole(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    done = mtnas("run", finished.job, "-o", run, "--json")
    assert done.code == 0, done.err
    assert stages_with(run, "skip") == list(STAGES)
    assert stages_with(run, "start") == list(STAGES)  # those of the first run
    theirs = finished.done.result
    assert done.result["result"] == theirs["result"]
    assert (run / "DONE").read_text() == (finished.path / "DONE").read_text()


def test_a_verb_of_an_earlier_stage_leaves_a_finished_run_finished(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    done = mtnas("train", finished.job, "-o", run, "--json")
    assert done.code == 0
    assert done.result["stage"] == "train"
    assert (run / "DONE").exists()


def test_a_changed_budget_repeats_the_search_and_keeps_the_old_one(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    known = len(records(run / "events.jsonl"))
    done = mtnas("search", finished.job, "-o", run, "-s", "budget.macs=60%")
    assert done.code == 0, done.err
    assert last_run(run, "skip", known) == BEFORE_SEARCH
    assert last_run(run, "start", known) == ["search"]
    aside = run / "4-search.superseded-1"
    assert (aside / "trials.jsonl").read_bytes() == (finished.path / "4-search/trials.jsonl").read_bytes()
    limits = json.loads((run / "4-search/search.json").read_text())["limits"]
    full = json.loads((run / "1-space/space.json").read_text())["largest"]["macs"]
    assert limits["macs"]["bound"] == pytest.approx(0.6 * full)
    assert not (run / "DONE").exists()  # pruning and the rest belong to the old budget


def test_other_epochs_repeat_the_training(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="train")
    known = len(records(run / "events.jsonl"))
    done = mtnas("train", finished.job, "-o", run, "-s", "train.epochs=1")
    assert done.code == 0, done.err
    assert last_run(run, "skip", known) == ["space"]
    assert last_run(run, "start", known) == ["train"]
    assert json.loads((run / "2-train/train.json").read_text())["epochs"] == 1
    assert json.loads((run / "2-train.superseded-1/train.json").read_text())["epochs"] == 3


def test_settings_that_change_nothing_change_nothing(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="train")
    known = len(records(run / "events.jsonl"))
    assert mtnas("train", finished.job, "-o", run, "-s", "train.checkpoint_seconds=30").code == 0
    assert last_run(run, "skip", known) == ["space", "train"]


def test_torn_last_lines_are_tolerated(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="search")
    (run / "4-search/stage.json").unlink()
    for journal in ("events.jsonl", "4-search/trials.jsonl", "4-search/random.jsonl", "4-search/measured.jsonl"):
        with (run / journal).open("a") as stream:
            stream.write('{"number": 8, "arch": {"enc')
    done = mtnas("search", finished.job, "-o", run)
    assert done.code == 0, done.err
    for journal in ("trials.jsonl", "random.jsonl", "measured.jsonl"):
        assert records(run / "4-search" / journal) == records(finished.path / "4-search" / journal)


def test_a_damaged_line_in_the_middle_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="search")
    (run / "4-search/stage.json").unlink()
    path = run / "4-search/trials.jsonl"
    whole = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*whole[:3], b"nonsense", *whole[4:]]))
    assert_told(mtnas("search", finished.job, "-o", run), 2, "trials.jsonl:4", "restore it")
    assert path.read_bytes().count(b"\n") == len(whole) - 1


def test_what_a_finished_run_leaves(finished: FinishedRun) -> None:
    run = finished.path
    done = json.loads((run / "DONE").read_text())
    assert done["schema"] == "done/1"
    assert {"time", "mtnas"} <= done.keys()
    assert not (run / "FAILED.json").exists()
    for name in ("job.resolved.yaml", "machine.json", *FOLDERS.values()):
        assert (run / name).exists(), name
    events = records(run / "events.jsonl")
    assert [(r["stage"], r["event"]) for r in events] == [(s, e) for s in STAGES for e in ("start", "end")]
    assert [r["time"] for r in events] == sorted(r["time"] for r in events)
    assert not [path for path in run.rglob("*") if path.suffix in {".pkl", ".pt", ".pth"}]


def test_failed_json_says_stage_kind_cure_and_how_to_resume(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    done = mtnas("run", finished.job, "-o", run, "-s", "budget.macs=1000")
    assert_told(done, 3, "macs <= 1,000" if "1,000" in done.err else "macs <= 1000")
    record = failure(run)
    assert record["schema"] == "failed/1"
    assert (record["stage"], record["kind"], record["exit_code"]) == ("space", "Infeasible", 3)
    assert record["cure"].startswith("relax macs")
    assert "same command" in record["resume"]
    assert not (run / "DONE").exists()
    assert (run / "8-verify/certificate.json").exists()  # nothing lost
    assert mtnas("run", finished.job, "-o", run).code == 0  # the old job again: still there, skipped
    assert (run / "DONE").exists()
    assert not (run / "FAILED.json").exists()
