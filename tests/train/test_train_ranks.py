"""Training by several processes: the same weights as by one, exact resume, and no hanging when one is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from step_toys import assert_close
from together import OPTIONS, USABLE, case
from train_toys import ToySplit, curve, plain_config, same, stored_step, toy_net, toy_tasks

from mtnas.base.errors import DataError, ProcessLost
from mtnas.train.finetune import finetune
from mtnas.train.ranks import Ranks, told

SCRIPT = Path(__file__).with_name("together.py")
CASES = [*(f"balance-{name}" for name in USABLE), "sandwich-plain", "sandwich-features", "sandwich-parts", "uneven"]
IN_PARTS = [f"options-{name}" for name in OPTIONS]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(SCRIPT.parents[1]), *sys.path])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"}


def torchrun(out: Path, names: Sequence[str], wait_s: float = 120.0) -> subprocess.Popen[str]:
    out.mkdir(exist_ok=True)
    command = [*TORCHRUN, str(SCRIPT), str(out), str(wait_s), *names]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0, said
    return said


def weights(out: Path, name: str, rank: int) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(out / f"{name}.{rank}.npz").items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, trained by two processes, and the long one, which is not compared with one process."""
    out = tmp_path_factory.mktemp("pair")
    finished(torchrun(out, [*CASES, *IN_PARTS, "long"]))
    return out


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(pair: Path, tmp_path: Path, name: str) -> None:
    alone = case(name, tmp_path)
    assert_close(weights(pair, name, 0), alone)


@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes_are_one_that_takes_as_many_parts(pair: Path, tmp_path: Path, name: str) -> None:
    """Also what belongs to one part of a step: batch-norm, and features that are standardised over images."""
    alone = case(f"options-{name}", tmp_path / "alone", accumulate=2 * int(str(OPTIONS[name].get("accumulate", 1))))
    assert_close(learned(weights(pair, f"options-{name}", 0)), learned(alone))


def learned(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without statistics of averaged weights, which are estimated from images part by part."""
    return {name: tensor for name, tensor in state.items() if "running" not in name}


@pytest.mark.parametrize("name", [*CASES, *IN_PARTS])
def test_processes_agree_to_the_bit(pair: Path, name: str) -> None:
    assert same(weights(pair, name, 0), weights(pair, name, 1))


def test_one_process_writes(pair: Path) -> None:
    """Every line of the curves once, with the losses of all images."""
    lines = curve(pair / "sandwich-plain")
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))


def test_losses_are_those_of_all_images(pair: Path, tmp_path: Path) -> None:
    case("sandwich-plain", tmp_path)
    for together, alone in zip(curve(pair / "sandwich-plain"), curve(tmp_path), strict=True):
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        assert together["norm"] == pytest.approx(alone["norm"], rel=1e-3)


def test_killed_and_resumed_equals_uninterrupted(pair: Path, tmp_path: Path) -> None:
    """Both processes start from other weights of their own: those of process 0 are taken."""
    process = torchrun(tmp_path / "killed", ["long"])
    checkpoint = tmp_path / "killed/long/checkpoint.safetensors"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() or stored_step(checkpoint) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.kill()
    for rank in (0, 1):
        os.kill(int((tmp_path / f"killed/pid{rank}").read_text()), signal.SIGKILL)
    process.communicate()
    assert 2 <= stored_step(checkpoint) < 36
    finished(torchrun(tmp_path / "killed", ["long"]))
    assert same(weights(tmp_path / "killed", "long", 0), weights(pair, "long", 0))
    assert same(weights(tmp_path / "killed", "long", 1), weights(pair, "long", 0))


def started_pair(out: Path, wait_s: float) -> list[subprocess.Popen[str]]:
    """Two processes without torchrun above them, so that nobody ends the other one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    found = []
    for rank in (0, 1):
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, str(SCRIPT), str(out), str(wait_s), "long"]
        found.append(
            subprocess.Popen(
                command, env=environment() | place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_a_lost_process_is_told(tmp_path: Path, number: signal.Signals) -> None:
    first, second = started_pair(tmp_path, 15.0)
    try:
        deadline = time.monotonic() + 200
        while not (tmp_path / "long/checkpoint.safetensors").exists():
            assert first.poll() is None and second.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        second.send_signal(number)
        _, said = first.communicate(timeout=90)
        assert first.returncode == 1
        assert "ProcessLost" in said and "the same command resumes" in said and "train.wait_seconds" in said
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_failures_of_torch_become_ours() -> None:
    with pytest.raises(ProcessLost, match="adding up") as caught, told("adding up"):
        raise RuntimeError("Connection closed by peer\nwith a long story")
    assert "long story" not in str(caught.value)


def test_one_process_needs_no_group() -> None:
    ranks, tensor = Ranks(), torch.ones(2)
    assert ranks.leads and ranks.largest(3.0) == 3.0 and ranks.agreed(2.0) == 2.0
    assert ranks.add([tensor, None], [tensor, tensor]) == [tensor, None]


def test_too_many_processes_for_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.train.fit.current_ranks", lambda: Ranks(0, 3))
    with pytest.raises(DataError, match="fewer processes"):
        finetune(toy_net(), toy_tasks(), ToySplit(), plain_config(batch_size=4), tmp_path, teacher=None, seed=0)
