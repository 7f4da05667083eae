"""`train.start` in a job: the file's content belongs to the training, and nothing else of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from mtnas.job.read import read_job
from mtnas.stages.context import RunContext
from mtnas.stages.inputs import inputs_hash, start_inputs

EMPTY = ("--set", "train.epochs=0", "--set", "train.watch_epochs=0")


@pytest.fixture
def start(tmp_path: Path, finished: tiny.FinishedRun) -> Path:
    """The weights of a finished run, as a training loop of another project would keep them."""
    from safetensors.torch import load_file

    state = load_file(finished.path / "2-train/weights.safetensors")
    path = tmp_path / "trained.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


def test_a_missing_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    job = tiny.write_job(tmp_path)
    done = tiny.mtnas("run", job, "--out", tmp_path / "run", "--set", f"train.start={tmp_path / 'none.pt'}")
    tiny.assert_told(done, 2, "a checkpoint to start from", "train.start", "none.pt")
    assert not (tmp_path / "run/1-space/space.json").exists()


def test_a_training_starts_there_and_again_when_the_content_changes(
    tmp_path: Path, start: Path, finished: tiny.FinishedRun
) -> None:
    run = finished.copy(tmp_path / "run", upto="space")
    words = ("train", finished.job, "--out", run, "--set", f"train.start={start}", *EMPTY)
    first = tiny.mtnas(*words)
    assert first.code == 0 and "started from" in first.err, first.err
    assert "train: unchanged, skipped" in tiny.mtnas(*words).err
    held = torch.load(start, weights_only=True)
    held["state_dict"]["module.encoder.stem.0.0.weight"] *= 1.5
    torch.save(held, start)
    again = tiny.mtnas(*words)
    assert again.code == 0 and "started from" in again.err and "train: unchanged" not in again.err, again.err


def test_only_the_training_depends_on_it(tmp_path: Path, start: Path, finished: tiny.FinishedRun) -> None:
    def context(*overrides: str) -> RunContext:
        return RunContext(read_job(finished.job, overrides), finished.path)

    plain, warm = context(), context(f"train.start={start}")
    assert start_inputs(warm, "train")["start"] and not start_inputs(plain, "train")
    assert not start_inputs(warm, "search")
    assert inputs_hash(plain, "space") == inputs_hash(warm, "space")
    assert inputs_hash(plain, "train") != inputs_hash(warm, "train")


def test_a_run_has_scores_of_its_training(finished: tiny.FinishedRun) -> None:
    """After two epochs of three, both ends of the supernet, on the select split."""
    lines = tiny.records(finished.path / "2-train/curves.jsonl")
    seen = [line for line in lines if "scores" in line]
    assert [line["epoch"] for line in seen] == [2.0]
    assert seen[0]["scores"].keys() == {"largest", "smallest"}
