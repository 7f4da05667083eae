"""What the parts of a network save, and the plan's advice where decoders save next to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import mtnas as command
from torch import nn

import mtnas
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel
from mtnas.space.choice import Choice
from mtnas.space.space import Space
from mtnas.stages.savings import OWN, SHARED, WHOLE, advice, own_layers, savings, told


class Heads(nn.Module):
    """A shared 1x1 layer of 16 channels, then for each task one of its own before its output; no biases."""

    def __init__(self, tasks: str, own: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 16, 1, bias=False)
        self.heads = nn.ModuleDict({task: nn.Conv2d(16, own, 1, bias=False) for task in tasks})
        self.out = nn.ModuleDict({task: nn.Conv2d(own, 1, 1, bias=False) for task in tasks})

    def forward(self, image_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        shared_BCHW = torch.relu(self.shared(image_BCHW))
        return {task: self.out[task](torch.relu(head(shared_BCHW))) for task, head in self.heads.items()}


def elastic(tasks: str = "ab", own: int = 16) -> ElasticModel:
    return mtnas.make_elastic(Heads(tasks, own), torch.zeros(1, 3, 8, 8), round_to=8)


def test_each_part_saves_what_its_layers_cost() -> None:
    """Two heads of 16: 16 x (3 + 16 + 16) + 16 + 16 = 592 weights, each once for every pixel."""
    network = elastic()
    found = savings(network, graph_of(network))
    assert list(found) == [SHARED, OWN, "a", "b"]
    saved = {SHARED: 8 * (3 + 16 + 16), OWN: 2 * 8 * (16 + 1), "a": 8 * (16 + 1), "b": 8 * (16 + 1)}
    for name, weights in saved.items():
        assert found[name]["macs"] == pytest.approx(weights / 592)
        assert found[name]["params"] == pytest.approx(weights / 592)


def test_a_network_of_one_task_has_no_shared_part() -> None:
    network = elastic("a")
    found = savings(network, graph_of(network))
    assert list(found) == [WHOLE]
    assert found[WHOLE]["macs"] == pytest.approx(1 - (8 * 3 + 8 * 8 + 8) / (16 * 3 + 16 * 16 + 16))
    assert told(found).startswith("of multiply-adds (parameters) at most: whole network 70.0%")
    assert advice(found, ["macs"], network.space) == ""


def test_a_part_without_choices_has_no_row() -> None:
    network = mtnas.make_elastic(
        Heads("ab", 16), torch.zeros(1, 3, 8, 8), round_to=8, ignored_layers=["heads.a", "shared"]
    )
    assert list(savings(network, graph_of(network))) == [OWN, "b"]


def test_advice_follows_the_cost_that_is_limited() -> None:
    space = elastic().space
    found = {SHARED: {"macs": 0.8, "params": 0.8}, OWN: {"macs": 0.049, "params": 0.3}}
    assert 'ignored_layers: ["heads.*"]' in advice(found, ["latency_ms"], space)
    assert 'ignored_layers: ["heads.*"]' in advice(found, [], space)
    assert advice(found, ["size_mb"], space) == ""
    assert advice(found, ["latency_ms", "params"], space) == ""
    assert advice({**found, OWN: {"macs": 0.05, "params": 0.0}}, ["macs"], space) == ""


def test_no_advice_without_a_layer_that_it_could_name() -> None:
    """Decoders whose blocks alone may be left out have no widths to keep."""
    found = {SHARED: {"macs": 0.8, "params": 0.8}, OWN: {"macs": 0.01, "params": 0.01}}
    blocks = Space((Choice("body", (8, 16), "width", ("a", "b")), Choice("heads.a", (0, 1), "depth", ("a",))))
    assert advice(found, ["macs"], blocks) == ""


def test_layers_of_decoders_are_named_by_what_holds_no_others() -> None:
    def names(*choices: tuple[str, str]) -> list[str]:
        return own_layers(Space(tuple(Choice(name, (8, 16), "width", tuple(owners)) for name, owners in choices)))

    assert names(("encoder.0", "ab"), ("heads.a.0", "a"), ("heads.b.0", "b")) == ["heads.*"]
    assert names(("heads.both", "ab"), ("heads.a.0", "a"), ("heads.b.0", "b")) == ["heads.a.0", "heads.b.0"]
    assert names(("body", "ab"), ("seg_head", "a"), ("depth_head", "b")) == ["seg_head", "depth_head"]


def test_the_plan_gives_advice_that_its_own_command_takes(tmp_path: Path) -> None:
    """Two pooled decoders on a large shared part; once they are whole there is nothing more to say."""
    job = tmp_path / "job.yaml"
    job.write_text(JOB, encoding="utf-8")
    plan = command("plan", job, "--json").result
    assert plan["savings"][OWN]["macs"] < 0.05 < plan["savings"][SHARED]["macs"]
    assert "keep decoders whole" in plan["advice"]
    assert plan["advice"] in command("plan", job).out
    advised = plan["advice"].partition("ignored_layers: ")[2].rstrip("}")
    whole = command("plan", job, "--json", "--set", f"space.ignored_layers={advised}").result
    assert whole["advice"] == "" and OWN not in whole["savings"]
    assert whole["savings"][SHARED]["macs"] == pytest.approx(plan["savings"][SHARED]["macs"])


JOB = """
data: {name: scenes, height: 32, width: 32, train: 16, calibrate: 16, select: 16, report: 16}
tasks: [room, presence]
model: {width: 32, blocks: [1, 1], head_width: 32, head_convs: 1}
"""
