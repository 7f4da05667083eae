"""A network or a space in the user's own files: an edit is noticed, never mixed with what was made before it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabricated import build

from mtnas.base.errors import DataError, ModelError
from mtnas.job.read import read_job
from mtnas.stages import train
from mtnas.stages.context import RunContext
from mtnas.stages.inputs import inputs_hash

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        return {"depth": self.b(torch.relu(self.a(x)))}

def make():
    return Net()
"""
JOB = """
data: {name: scenes, height: 16, width: 16, train: 4, calibrate: 2, select: 2, report: 2}
tasks: [depth]
model: {factory: "edited_network:make"}
"""
Hash = Callable[[str], str]


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hash]:
    """The space stage's inputs with a network's file as given, as a fresh process would see it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def inputs(text: str) -> str:
        sys.modules.pop("edited_network", None)
        importlib.invalidate_caches()
        (tmp_path / "edited_network.py").write_text(text)
        (tmp_path / "job.yaml").write_text(JOB)
        return inputs_hash(RunContext(read_job(tmp_path / "job.yaml"), tmp_path / "run"), "space")

    yield inputs
    sys.modules.pop("edited_network", None)


def test_a_changed_forward_is_another_network_a_comment_is_not(hash_of: Hash) -> None:
    first = hash_of(NETWORK)
    assert hash_of(NETWORK) == first
    assert hash_of("# a note\n" + NETWORK.replace("super().__init__()", "super().__init__()  # first")) == first
    assert hash_of(NETWORK.replace("torch.relu", "torch.tanh")) != first
    assert hash_of(NETWORK.replace("return Net()", "net = Net()\n    net.a.bias.data.zero_()\n    return net")) != first


def test_a_factory_that_throws_dice_of_its_own_is_refused(hash_of: Hash) -> None:
    dice = "import random\n" + NETWORK.replace(
        "return Net()", "net = Net()\n    net.b.bias.data.fill_(random.random())\n    return net"
    )
    with pytest.raises(ModelError, match="seed yours inside the factory"):
        hash_of(dice)


def test_edited_rules_draw_the_space_again(tmp_path: Path) -> None:
    job, rules = tmp_path / "job.yaml", tmp_path / "own.yaml"
    job.write_text("space: {rules: own.yaml}\n")

    def inputs(text: str) -> str:
        rules.write_text(text)
        return inputs_hash(RunContext(read_job(job), tmp_path / "run"), "space")

    first = inputs("shared: [0.5, 1.0]\n")
    assert inputs("description: halves\nshared: [0.5]\n") != first  # 1.0 is written or not: another file, told apart
    assert inputs("description: halves\nshared: [0.5, 1.0]  # all\n") == first


def test_a_damaged_report_picture_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mending it makes other data: found after the training, that would be trained again."""
    build("folder", tmp_path / "data", monkeypatch)
    job = tmp_path / "job.yaml"
    job.write_text("data: {name: folder, root: data, height: 32, width: 32}\ntasks: [road]\n")
    last = RunContext(read_job(job), tmp_path / "run").split("report")._keys[-1]  # type: ignore[attr-defined]
    picture = next((tmp_path / "data/images").glob(f"{last}.*"))
    picture.write_bytes(picture.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{last}.*readable image"):
        train.run(RunContext(read_job(job), tmp_path / "run"), tmp_path / "run")
