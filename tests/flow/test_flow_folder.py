"""Damaged, full, read-only and busy folders: refused with the cure, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import FinishedRun, assert_told, failure, finish, lines, mtnas, records, start, stop_when

from mtnas.base.files import file_hash


def damage(path: Path) -> None:
    """Flip one byte in the middle: the file keeps its size and most of its sense."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


# --- damaged files ----------------------------------------------------------------------------------------------


def test_damaged_checkpoint(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="train")
    (run / "2-train/stage.json").unlink()
    checkpoint = run / "2-train/checkpoint.safetensors"
    damage(checkpoint)
    assert_told(mtnas("train", finished.job, "-o", run), 2, str(checkpoint), "delete this file to train from the start")
    assert checkpoint.exists()
    checkpoint.unlink()
    assert mtnas("train", finished.job, "-o", run).code == 0
    assert len(records(run / "2-train/curves.jsonl")) == 48


@pytest.mark.parametrize("how", ["damaged", "torn", "gone"])
def test_damaged_weights_of_a_finished_training(finished: FinishedRun, tmp_path: Path, how: str) -> None:
    run = finished.copy(tmp_path / "run", upto="train")
    weights = run / "2-train/weights.safetensors"
    {"damaged": damage, "torn": lambda path: os.truncate(path, 1000), "gone": Path.unlink}[how](weights)
    done = mtnas("train", finished.job, "-o", run)
    assert_told(done, 2, str(weights), "stage.json", "makes it again")
    (run / "2-train/stage.json").unlink()  # the cure: no step is trained again, the last checkpoint has it all
    assert mtnas("train", finished.job, "-o", run).code == 0
    assert file_hash(weights) == file_hash(finished.path / "2-train/weights.safetensors")


@pytest.mark.parametrize("text", ["", '{"schema": "stage/1", "inp', "[]", '{"schema": "stage/0"}'])
def test_damaged_bookkeeping(finished: FinishedRun, tmp_path: Path, text: str) -> None:
    run = finished.copy(tmp_path / "run", upto="train")
    (run / "2-train/stage.json").write_text(text)
    assert_told(mtnas("train", finished.job, "-o", run), 2, "stage.json")
    (run / "2-train/stage.json").unlink()
    assert mtnas("train", finished.job, "-o", run).code == 0
    assert not list(run.glob("*superseded*"))


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("1-space/space.json", "1-space"),
        ("1-space/graph/elastic.onnx", "1-space"),
        ("3-profile/device/measurements.jsonl", "3-profile"),
        ("3-profile/device/predictor.json", "3-profile"),
        ("4-search/search.json", "4-search"),
        ("5-prune/delivered.safetensors", "5-prune"),
        ("7-export/model.onnx", "7-export"),
        ("8-verify/verify.json", "8-verify"),
        ("9-certify/certificate.json", "9-certify"),
    ],
)
def test_any_damaged_result_is_noticed(finished: FinishedRun, tmp_path: Path, name: str, stage: str) -> None:
    run = finished.copy(tmp_path / "run")
    damage(run / name)
    assert_told(mtnas("run", finished.job, "-o", run), 2, f"{run / name}: the file as the stage", f"{stage}/stage.json")


def test_damaged_search_is_mended_from_its_journals(finished: FinishedRun, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "run", upto="search")
    (run / "4-search/front.json").write_text("{")
    (run / "4-search/stage.json").unlink()
    assert mtnas("search", finished.job, "-o", run).code == 0
    for name in ("front.json", "search.json"):
        ours, theirs = (json.loads((path / "4-search" / name).read_text()) for path in (run, finished.path))
        assert ours == theirs
        assert list(ours.get("chosen", {}).get("arch", {})) == list(theirs.get("chosen", {}).get("arch", {}))


# --- folders that cannot be written -----------------------------------------------------------------------------


def test_a_file_in_the_way(finished: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert_told(mtnas("run", finished.job, "-o", tmp_path / "file"), 2, "a file is in the way", "--out")
    assert_told(mtnas("run", finished.job, "-o", tmp_path / "file/run"), 2, "a file is in the way", "--out")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_where_nothing_can_be_made(finished: FinishedRun) -> None:
    assert_told(mtnas("run", finished.job, "-o", "/proc/mtnas"), 2, "/proc/mtnas", "a folder that can be written")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 2 MB large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_a_full_disk_loses_nothing(finished: FinishedRun, small_disk: Path) -> None:
    run = finished.copy(small_disk / "run", upto="export")
    with (small_disk / "ballast").open("wb") as stream:
        free = shutil.disk_usage(small_disk).free
        stream.write(bytes(max(0, free - 40_000)))
    done = mtnas("run", finished.job, "-o", run)
    assert_told(done, 2, "No space left on device", "free some space", "the same command resumes")
    (small_disk / "ballast").unlink()
    remount(small_disk, "size=32M")
    done = mtnas("run", finished.job, "-o", run)
    assert done.code == 0, done.err
    assert "export: unchanged, skipped" in done.err
    assert (run / "DONE").exists()


def test_a_disk_that_is_full_from_the_start(finished: FinishedRun, small_disk: Path) -> None:
    run = finished.copy(small_disk / "run", upto="space")
    with (small_disk / "ballast").open("wb", buffering=0) as stream:
        while stream.write(bytes(min(4096, shutil.disk_usage(small_disk).free))):
            pass
    assert_told(mtnas("run", finished.job, "-o", run), 2, "No space left on device", "--out")


def test_a_read_only_disk(finished: FinishedRun, small_disk: Path) -> None:
    run = finished.copy(small_disk / "run", upto="space")
    remount(small_disk, "ro")
    assert_told(mtnas("run", finished.job, "-o", run), 2, "Read-only file system", "--out")
    assert_told(mtnas("run", finished.job, "-o", small_disk / "new"), 2, "Read-only file system", "--out")


# --- folders in use, interruptions --------------------------------------------------------------------------------

LONG = ("-s", "train.epochs=500")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_second_run_asks_for_the_folder(
    finished: FinishedRun, tmp_path: Path, number: signal.Signals
) -> None:
    run = finished.copy(tmp_path / "run", upto="space")
    first = start("train", finished.job, "-o", run, *LONG, scratch=tmp_path)
    curves = run / "2-train/curves.jsonl"

    def second_is_refused() -> bool:
        if lines(curves) < 2:
            return False
        if number == signal.SIGINT:
            second = mtnas("run", finished.job, "-o", run)
            assert_told(second, 2, f"process {first.pid} is running here", "wait for it", "--out")
        return True

    done = stop_when(first, second_is_refused, number)
    assert_told(done, 130, "interrupted", "the same command resumes")
    record = failure(run)
    assert (record["stage"], record["kind"], record["exit_code"]) == ("train", "KeyboardInterrupt", 130)
    assert "run the same command again" in record["resume"]
    assert records(run / "events.jsonl")[-1]["event"] == "fail"
    assert (run / "2-train/checkpoint.safetensors").exists()
    assert not list(run.rglob("*.tmp"))
    third = mtnas("run", finished.job, "-o", run, *LONG, "-s", "budget.macs=1000")  # the lock went with its process
    assert third.code == 3


def test_json_is_all_that_stdout_holds(finished: FinishedRun, tmp_path: Path) -> None:
    assert finished.done.result["met"] is True
    assert finished.done.result["stage"] == "report"
    assert "certifying" not in finished.done.out
    assert "space ..." in finished.done.err
    run = finished.copy(tmp_path / "run")
    done = finish(start("verify", finished.job, "-o", run, "--json", scratch=tmp_path))
    assert done.result["result"] == json.loads((run / "8-verify/verify.json").read_text())
    assert done.result["passed"] is True
