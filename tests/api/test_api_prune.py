"""Pruning a plain network: targets, floors, statistics, criteria, continuing, and every refusal."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import fork_zoo
import pytest
import torch
from api_subject import QUICK, Chain, example, modes, same, state_of
from torch import Tensor, nn
from zoo import image

import mtnas
from mtnas.base.errors import BudgetMissed, CheckpointError, DataError, DeviceMissing, FloorMissed, JobError, ModelError
from mtnas.base.files import write_text
from mtnas.elastic.model import make_elastic
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import read_device
from mtnas.prune.config import PruneConfig

CONFIG = PruneConfig(criterion="l1", step=16, min_units=16, max_steps=4)


def quick(device: str) -> MeasureConfig:
    return replace(QUICK, device=read_device(device).name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol of a device by name, without patience."""
    monkeypatch.setattr("mtnas.api.measuring.device_config", quick)


def squares(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: ((output - targets[name]) ** 2).mean() for name, output in outputs.items()}


def batches() -> list[tuple[Tensor, dict[str, Tensor]]]:
    return [(image(4, seed=k), {"depth": torch.zeros(4, 1, 16, 16)}) for k in range(2)]


def test_a_budget_of_latency_is_kept_as_measured() -> None:
    model = Chain().train()
    before, mode = state_of(model), modes(model)
    pruned, result = mtnas.prune(model, example(), budget={"latency_ms": "70%"}, config=CONFIG)
    assert result.kept == "pruned" and result.steps[0].accepted and not pruned.training
    assert result.after["latency_ms"].value < result.before["latency_ms"].value
    assert result.gate is not None and result.gate.verdict == "faster"
    assert same(before, model) and modes(model) == mode
    assert any(new < old for old, new in result.widths.values())
    channels = {"body.0.0": pruned.get_submodule("body.0.0"), "body.1": pruned.get_submodule("body.1")}
    for name, layer in channels.items():
        assert isinstance(layer, nn.Conv2d) and layer.out_channels == result.widths[name][1]
    assert result.scores_before == {} and "latency_ms" in str(result)
    assert json.loads(json.dumps(result.to_json()))["schema"] == "prune-result/1"
    if result.met:
        result.require()


def test_a_bare_score_is_a_score() -> None:
    pruned, result = mtnas.prune(
        Chain(), example(), score=lambda network: float(network(image())["depth"].abs().mean()), config=CONFIG
    )
    assert result.scores_before.keys() == result.scores_after.keys() == {"score"}
    assert result.scores_after["score"] == pytest.approx(float(pruned(image())["depth"].abs().mean()))


def width(network: nn.Module) -> dict[str, float]:
    """A score that falls with the first width, and an error that rises."""
    channels = network.get_submodule("body.0.0").out_channels
    return {"first": float(channels), "error": 1.0 / channels}


@pytest.mark.parametrize(
    ("floors", "lower", "least"), [({"first": "-25%"}, (), 48), ({"error": "-40%"}, ("error",), 48), ({}, (), 16)]
)
def test_floors_hold_what_they_are_about(floors: dict[str, str], lower: tuple[str, ...], least: int) -> None:
    """64 channels: a quarter less is 48, where the error is a third larger."""
    _, result = mtnas.prune(
        Chain(),
        example(),
        score=width,
        floors=floors,
        lower_is_better=lower,
        budget={"params": "1%"},
        config=CONFIG,
    )
    assert result.widths["body.0.0"] == (64, least)
    assert bool([step for step in result.steps if step.missed]) == bool(floors)
    assert not result.met
    with pytest.raises(BudgetMissed, match="params"):
        result.require()


def test_limits_that_are_counted() -> None:
    _, result = mtnas.prune(Chain(), example(), budget={"macs": "60%", "size_mb": 0.15}, config=CONFIG)
    assert result.met and result.stopped_because == "target reached"
    assert result.after["macs"].value <= 0.6 * result.before["macs"].value
    assert result.after["size_mb"].value <= 0.15
    assert result.after["macs"].kind == "counted"


def test_a_budget_that_is_kept_already_removes_nothing() -> None:
    model = Chain()
    pruned, result = mtnas.prune(model, example(), budget={"latency_ms": 1000.0, "params": 10**9}, config=CONFIG)
    assert result.kept == "original" and not result.steps and result.met and result.gate is None
    assert same(state_of(model), pruned) and pruned is not model


def test_batch_norm_is_estimated_again_where_there_are_images() -> None:
    model = Chain(norm=True).train()
    with torch.no_grad():
        for _ in range(20):
            model(image(8))
    sliced, told = mtnas.prune(model, example(), budget={"macs": "80%"}, config=CONFIG)
    estimated, silent = mtnas.prune(model, example(), budget={"macs": "80%"}, config=CONFIG, batches=batches())
    assert "statistics are those of the unpruned network" in told.notes[0] and silent.notes == ()
    assert sliced.get_submodule("body.0.1").running_mean.shape == estimated.get_submodule("body.0.1").running_mean.shape
    assert not torch.equal(
        sliced.get_submodule("body.0.1").running_mean, estimated.get_submodule("body.0.1").running_mean
    )


def test_taylor_where_there_are_losses() -> None:
    """Importance comes from the losses: scaled by a factor, nothing changes; the batches may be read only once."""
    plain = mtnas.prune(Chain(), example(), budget={"macs": "80%"}, losses=squares, batches=iter(batches()))
    loud = mtnas.prune(
        Chain(),
        example(),
        budget={"macs": "80%"},
        losses=lambda outputs, targets: {name: 1e3 * loss for name, loss in squares(outputs, targets).items()},
        batches=batches(),
    )
    assert [step.removed for step in plain.result.steps] == [step.removed for step in loud.result.steps]
    assert plain.result.met


def test_a_fork_keeps_the_option_that_runs() -> None:
    """Not the largest one: what is pruned is the network as it answers. And pruned is masked."""
    model = fork_zoo.network("kernels")
    config = PruneConfig(criterion="l1", step=4, min_units=4, max_steps=6)
    pruned, result = mtnas.prune(model, image(1), budget={"macs": "70%"}, config=config)
    assert result.kept == "pruned" and result.met
    assert list(pruned.get_submodule("middle.0.depthwise.options")._modules) == ["k5"]
    assert set(model.get_submodule("middle.0.depthwise.options")._modules) == {"k3", "k5", "k7"}
    masked = make_elastic(model, image(1), round_to=4)
    state = dict(masked.model.named_parameters())
    with torch.no_grad():
        for group in masked.groups:
            removed = [
                unit for step in result.steps if step.accepted and step.group == group.name for unit in step.removed
            ]
            for member in (m for m in group.members if m.role != "in" and m.name in state):
                rows = state[member.name].movedim(member.axis, 0)
                rows[[position for unit in removed for position in member.positions_UK[unit]]] = 0.0
        for task, expected in masked.model(image(2)).items():
            torch.testing.assert_close(pruned(image(2))[task], expected, rtol=1e-4, atol=1e-5)


def test_the_same_call_continues(tmp_path: Path) -> None:
    """The journal decides: the second call measures no step again; another budget sets the folder aside."""
    model = Chain()
    first = mtnas.prune(model, example(), budget={"macs": "60%"}, config=CONFIG, out=tmp_path)
    journal = tmp_path / "5-prune" / "steps.jsonl"
    lines = journal.read_text()
    again = mtnas.prune(model, example(), budget={"macs": "60%"}, config=CONFIG, out=tmp_path)
    assert journal.read_text() == lines
    assert again.result.steps == first.result.steps and same(state_of(first.model), again.model)
    mtnas.prune(model, example(), budget={"macs": "80%"}, config=CONFIG, out=tmp_path)
    assert (tmp_path / "5-prune.superseded-1" / "steps.jsonl").read_text() == lines


def test_an_interrupted_call_continues_from_its_journal(tmp_path: Path) -> None:
    calls = 0

    def interrupted(network: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return 1.0

    settings = {"budget": {"macs": "30%"}, "floors": {"score": "-1%"}, "config": CONFIG, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        mtnas.prune(Chain(), example(), score=interrupted, **settings)
    journal = tmp_path / "5-prune" / "steps.jsonl"
    kept = journal.read_text()
    assert kept.count('"kind": "step"') == 2
    _, result = mtnas.prune(Chain(), example(), score=lambda network: 1.0, **settings)
    assert journal.read_text().startswith(kept) and len(result.steps) > 2


def test_a_damaged_start_is_refused(tmp_path: Path) -> None:
    mtnas.prune(Chain(), example(), budget={"macs": "80%"}, config=CONFIG, out=tmp_path)
    write_text(tmp_path / "5-prune" / "start.json", "{")
    with pytest.raises(CheckpointError, match=r"start\.json"):
        mtnas.prune(Chain(), example(), budget={"macs": "80%"}, config=CONFIG, out=tmp_path)


class Fixed(nn.Module):
    """Nothing but an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Conv2d(3, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(image_BCHW)}


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"config": PruneConfig()}, JobError, "losses= and batches= for Taylor"),
        ({"config": PruneConfig(), "losses": squares}, JobError, "no batches"),
        ({"floors": {"depth": "-3%"}}, JobError, "give score="),
        ({"score": width, "floors": {"frist": "-3%"}}, JobError, "did you mean 'first'"),
        ({"score": width, "lower_is_better": ["eror"]}, JobError, "did you mean 'error'"),
        ({"score": width, "floors": {"first": 65.0}}, FloorMissed, r"first 64 \(floor 65\)"),
        ({"score": lambda network: math.nan}, ModelError, "a finite number for every task"),
        ({"score": lambda network: {"depth": "good"}}, ModelError, "'good'"),
        ({"budget": {"latency": 3.0}}, JobError, "did you mean 'latency_ms'"),
        ({"budget": {"latency_ms": "fast"}}, JobError, "a positive number"),
        ({"budget": {"energy_mj": 3.0}}, DeviceMissing, "energy counter"),
        ({"profile": "local-rot"}, JobError, "did you mean 'local-ort'"),
        ({"batches": [image()]}, DataError, r"batches of \(image of shape"),
        ({"tasks": ["depth"]}, JobError, "no score= and no data="),
    ],
)
def test_what_is_refused(
    settings: dict[str, object], kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtnas.measure.limits.find_counter", lambda *_: (None, ["RAPL: no package"]))
    with pytest.raises(kind, match=message):
        mtnas.prune(Chain(), example(), **settings)


def test_a_network_that_cannot_shrink() -> None:
    with pytest.raises(ModelError, match="at least one group of channels that may shrink"):
        mtnas.prune(Fixed(), example())
