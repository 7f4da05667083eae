"""References of a run: trained, cached between runs, shown with their convention, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import FinishedRun, assert_told, mtnas, stages_with

from mtnas.score.delta import CONVENTIONS

TRAIN = ("-s", "references.mode=train", "-s", "references.epochs=1")


def page_of(run: Path) -> str:
    return (run / "report/index.html").read_text(encoding="utf-8")


def test_the_unpruned_supernet_is_the_usual_reference(finished: FinishedRun) -> None:
    record = finished.done.result["references"]
    assert record["mode"] == "full" and record["columns"]["one_metric"] == CONVENTIONS["one_metric"]
    assert set(record["deltas"]["full"].values()) == {0.0}
    rows = {row["name"]: row for row in finished.done.result["table"]}
    changes = []
    for task, cell in rows["pruned"]["primary"].items():
        before = rows["full"]["primary"][task]["value"]
        change = 100.0 * (cell["value"] - before) / before
        changes.append(change if task == "segmentation" else -change)
    assert record["deltas"]["pruned"]["one_metric"] == pytest.approx(sum(changes) / 2)
    assert CONVENTIONS["one_metric"] + ", against the unpruned supernet" in page_of(finished.path)


def test_without_references_no_column(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run")
    done = mtnas("run", finished.job, "-o", run, "--json", "-s", "references.mode=none")
    assert done.code == 0, done.err
    assert "deltas" not in done.result["references"]
    text = page_of(run)
    assert not any(title in text for title in CONVENTIONS.values())


def test_trained_references_are_cached_beside_the_run(finished: FinishedRun, tmp_path: Path) -> None:
    first, second = (finished.copy(tmp_path / name) for name in ("a", "b"))
    words = ("run", finished.job, "--json", *TRAIN)
    done = mtnas(*words, "-o", first)
    assert done.code == 0, done.err
    assert stages_with(first, "start")[-2:] == ["references", "report"]
    cached = sorted(path.name for path in (tmp_path / ".references").iterdir())
    assert [name.split("-")[0] for name in cached] == ["depth", "segmentation"]
    again = mtnas(*words, "-o", second)
    assert again.result["references"] == done.result["references"]
    assert "reference of" in done.err and "reference of" not in again.err
    record = done.result["references"]
    assert record["epochs"] == 1 and set(record["scores"]) == set(record["scores_select"]) == {"segmentation", "depth"}
    text = page_of(first)
    assert CONVENTIONS["flat"] + ", against single-task networks" in text
    assert "trained alone for 1 epochs" in text


def test_damaged_cache_is_told(finished: FinishedRun, tmp_path: Path) -> None:
    run, cache = finished.copy(tmp_path / "run"), tmp_path / "cache"
    words = ("run", finished.job, "-o", run, *TRAIN, "-s", f"references.cache={cache}")
    assert mtnas(*words).code == 0
    for record in cache.glob("*/reference.json"):
        record.write_text(json.dumps({"schema": "reference/1"}))
    (run / "references/stage.json").unlink()
    assert_told(mtnas(*words), 2, "reference.json", "delete the folder")
