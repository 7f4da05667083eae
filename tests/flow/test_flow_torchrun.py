"""`torchrun -m mtnas train job.yaml`: two processes, one run folder; every other verb takes one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import Done, assert_told, environment, finish, records, stages_with, start, write_job

SMALL = ("--set", "train.epochs=2")


def torchrun(*words: str | Path, scratch: Path) -> Done:
    """`torchrun --nproc-per-node 2 -m mtnas ...`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mtnas"]
    settings = {**environment(scratch), "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return finish(subprocess.Popen([*command, *map(str, words)], env=settings, text=True, **pipes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Done]:
    folder = tmp_path_factory.mktemp("torchrun")
    job = write_job(folder)
    done = torchrun("train", job, "--out", folder / "run", "--json", *SMALL, scratch=folder)
    assert done.code == 0, done.err
    return job, folder / "run", done


def test_the_run_is_as_any_other(trained: tuple[Path, Path, Done]) -> None:
    _, run, done = trained
    result = json.loads((run / "2-train/train.json").read_text())
    assert result["scores"]["largest"].keys() == result["scores"]["smallest"].keys()
    assert json.loads(done.out)
    steps = [line["step"] for line in records(run / "2-train/curves.jsonl")]
    assert steps == sorted(set(steps)) and steps[-1] == result["steps"]
    assert stages_with(run, "end") == ["space", "train"]


def test_what_is_done_is_not_done_again(trained: tuple[Path, Path, Done]) -> None:
    """Nor do the other processes wait for a training that does not come."""
    job, run, _ = trained
    again = torchrun("train", job, "--out", run, *SMALL, scratch=run.parent)
    assert again.code == 0, again.err
    assert "train: unchanged, skipped" in again.err


def test_one_process_goes_on(trained: tuple[Path, Path, Done]) -> None:
    job, run, _ = trained
    done = finish(start("train", job, "--out", run, *SMALL, scratch=run.parent))
    assert done.code == 0 and "train: unchanged, skipped" in done.err


def test_other_verbs_are_refused(trained: tuple[Path, Path, Done]) -> None:
    job, run, _ = trained
    done = torchrun("run", job, "--out", run, scratch=run.parent)
    assert done.code != 0
    assert "one process for all that is not training" in done.err and "-m mtnas train" in done.err


def test_a_wrong_job_ends_both(trained: tuple[Path, Path, Done]) -> None:
    job, run, _ = trained
    done = torchrun("train", job, "--out", run, "--set", "train.lr=-1", scratch=run.parent)
    assert done.code != 0 and "train.lr" in done.err


def test_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mtnas", "train", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path))
    assert_told(Done(done.returncode, done.stdout, done.stderr), 2, "none.yaml")
