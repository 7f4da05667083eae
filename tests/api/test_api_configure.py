"""From budget and preference to a network: by the function, by the elastic model, with and without a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from api_subject import SIDE, TASKS, Ready, example, state_of
from torch import Tensor, nn
from zoo import conv_bn

import mtnas
from mtnas.api import known as known_module
from mtnas.base.errors import CheckpointError, FloorMissed, Infeasible, JobError
from mtnas.base.journal import Journal
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.elastic.model import ElasticModel
from mtnas.search.config import ConfigureConfig
from mtnas.search.configure import Configured
from mtnas.space.rules import SpaceRules
from mtnas.stages.context import RunContext
from mtnas.stages.control import default_budgets

DATA = DataConfig(height=SIDE, width=SIDE, train=16, calibrate=16, select=16, report=16)


class TwoDecoders(nn.Module):
    """A shared encoder of two layers, and for each task a decoder of two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.encoder = nn.Sequential(conv_bn(3, 32, 3, 2), conv_bn(32, 32, 3, 1))
        self.decoders = nn.ModuleDict({task: self.decoder(8 if task == "segmentation" else 1) for task in TASKS})

    @staticmethod
    def decoder(outputs: int) -> nn.Module:
        return nn.Sequential(conv_bn(32, 32, 3, 1), nn.Conv2d(32, outputs, 1), nn.Upsample(scale_factor=2))

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        features = self.encoder(image_BCHW)
        return {task: decoder(features) for task, decoder in self.decoders.items()}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return mtnas.open_data(DATA)


@pytest.fixture
def fresh() -> ElasticModel:
    """A network with decoders that nobody has trained or profiled; its scores tell networks apart all the same."""
    return mtnas.make_elastic(TwoDecoders(), example(), prove=False)


def decoder_sizes(elastic: ElasticModel, found: Configured, task: str) -> list[float]:
    """Width of each of a task's own choices as a fraction of its largest."""
    own = [c for c in elastic.space.choices if c.owners == (task,)]
    return [float(found.arch[c.name]) / float(c.options[-1]) for c in own]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Selections that are scored from now on."""
    from mtnas.stages import configure as stage

    honest, calls = stage.score_selection, list[str]()

    def scored(context: RunContext, selection: object, **settings: object) -> object:
        calls.append(str(getattr(selection, "id", "")))
        return honest(context, selection, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "score_selection", scored)
    return calls


def test_a_budget_by_counts_needs_no_profile(fresh: ElasticModel, data: Dataset) -> None:
    found = mtnas.configure(fresh, TASKS, data, budget={"macs": "50%"}, preference={"edges": 0})
    full = mtnas.configure(fresh, TASKS, data)
    assert full.arch == fresh.space.largest and full.scores == full.full_scores == found.full_scores
    assert found.costs["macs"].kind == "counted" and set(found.costs) == {"macs", "params", "size_mb"}
    assert found.costs["macs"].value <= found.limits["macs"] == pytest.approx(0.5 * full.costs["macs"].value)
    small = fresh.extract(found)
    assert set(small(example())) == set(TASKS)
    with pytest.raises(JobError, match=r"(?s)latency_ms.*profile a device"):
        mtnas.configure(fresh, TASKS, data, budget={"latency_ms": 5.0})


def test_its_scores_are_those_of_the_network_that_is_taken_out(fresh: ElasticModel, data: Dataset) -> None:
    from mtnas.score.score import score

    found = mtnas.configure(fresh, TASKS, data, budget={"macs": "40%"})
    tasks = mtnas.make_tasks(TASKS, data)
    again = score(fresh.extract(found), tasks, data.split("select"))
    for name, task in tasks.items():
        assert found.scores[name] == pytest.approx(again[name][task.primary.name], abs=1e-4)


def test_latency_by_the_profile(ready: Ready) -> None:
    elastic = ready.elastic
    smallest, full = ready.profile.smallest.value, ready.profile.full.value
    limit = ready.profile.predict(elastic.selection(elastic.space.smallest)).value * 0.5 + 0.5 * max(full, smallest)
    limit = max(limit, 1.05 * smallest)
    found = mtnas.configure(elastic, TASKS, ready.data, ready.profile, budget={"latency_ms": limit})
    assert found.costs["latency_ms"].value <= limit
    whole = mtnas.configure(elastic, TASKS, ready.data, ready.profile)
    assert whole.costs["latency_ms"] == ready.profile.full  # the unpruned network was measured
    percent = mtnas.configure(elastic, TASKS, ready.data, ready.profile, budget={"latency_ms": "300%"})
    assert percent.limits["latency_ms"] == pytest.approx(3 * full) and percent.arch == elastic.space.largest


def test_the_elastic_model_answers_once_it_is_trained_or_told(ready: Ready, fresh: ElasticModel, data: Dataset) -> None:
    with pytest.raises(JobError, match=r"(?s)knows its tasks and data.*mtnas\.configure"):
        fresh.configure(budget={"macs": "50%"})
    known_module.learn(fresh, profile=ready.profile)
    with pytest.raises(JobError, match="a profile only"):
        fresh.configure(budget={"macs": "50%"})
    fresh.configure_with(None)
    whole = mtnas.configure(fresh, TASKS, data, budget={"macs": "50%"}, preference={"edges": 3})
    assert fresh.configure(budget={"macs": "50%"}, preference={"edges": 3}) == whole
    # the session's model was trained and profiled by the public functions
    found = ready.elastic.configure(budget={"latency_ms": "500%"}, preference={"segmentation": 1, "edges": 0})
    assert isinstance(found, Configured) and found.limits["latency_ms"] == pytest.approx(5 * ready.profile.full.value)
    assert ready.elastic.selection(found) == ready.elastic.selection(found.arch)


# --- some of the tasks --------------------------------------------------------------------------------------------


def test_a_network_for_one_task(fresh: ElasticModel, data: Dataset) -> None:
    whole = mtnas.configure(fresh, TASKS, data, budget={"macs": "50%"})
    found = fresh.configure(budget={"macs": "50%"}, tasks=["edges"])
    assert isinstance(found, Configured) and found.tasks == ("edges",)
    assert Configured.from_json(found.to_json()) == found
    full = fresh.configure(tasks=["edges"])
    assert isinstance(full, Configured) and found.limits["macs"] == pytest.approx(0.5 * full.costs["macs"].value)
    assert found.limits["macs"] < whole.limits["macs"]
    assert set(found.scores) == {"edges"} == set(found.preference) and whole.tasks == ()
    assert decoder_sizes(fresh, found, "segmentation") == [1.0] * len(decoder_sizes(fresh, found, "segmentation"))
    small = fresh.extract(found)
    assert set(small(example())) == {"edges"} and set(fresh.extract(whole)(example())) == set(TASKS)
    counted = sum(tensor.numel() for tensor in small.parameters())
    assert found.costs["params"].value == counted
    with pytest.raises(JobError, match="did you mean 'edges'"):
        fresh.configure(tasks=["edge"])
    with pytest.raises(JobError, match="each task once"):
        fresh.configure(tasks=["edges", "edges"])


def test_latency_of_one_task_has_a_profile_of_its_own(ready: Ready) -> None:
    elastic = ready.elastic
    mtnas.configure(elastic, TASKS, ready.data, ready.profile)
    found = elastic.configure(tasks=["edges"], budget={"macs": "99%"})
    assert isinstance(found, Configured) and found.costs["latency_ms"].kind == "predicted"
    own = elastic.configurer.memory["profile", "edges"]  # type: ignore[union-attr]
    assert own.graph.outputs == ("edges",) and found.costs["latency_ms"] == own.predict(elastic.selection(found))
    assert elastic.configure(tasks=["edges"], budget={"macs": "99%"}) == found
    assert elastic.configure().costs["latency_ms"] == ready.profile.full  # that of all tasks is still known
    with pytest.raises(JobError, match="answer segmentation"):
        mtnas.configure(elastic, ["segmentation"], ready.data, own)
    mtnas.configure(elastic, TASKS, ready.data, ready.profile)


def test_preference_sizes_the_decoders(fresh: ElasticModel, data: Dataset) -> None:
    for wanted, other in (TASKS, TASKS[::-1]):
        found = mtnas.configure(fresh, TASKS, data, preference={wanted: 1, other: 0})
        assert decoder_sizes(fresh, found, wanted) == [1.0] and decoder_sizes(fresh, found, other) == [0.25]
        assert [c for c in fresh.space.choices if len(c.owners) == 2] and found.scores != found.full_scores


def test_scores_are_kept_and_an_interruption_loses_one(
    fresh: ElasticModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = {"budget": {"macs": "40%"}, "preference": {"edges": 2.0}}
    whole = mtnas.configure(fresh, TASKS, data, **wish)  # type: ignore[arg-type]
    calls = counting(monkeypatch)
    assert mtnas.configure(fresh, TASKS, data, **wish) == whole and not calls  # type: ignore[arg-type]
    assert mtnas.configure(fresh, TASKS, data, out=tmp_path, **wish) == whole  # type: ignore[arg-type]
    journal = Journal(tmp_path / "evaluations.jsonl")
    assert len(journal.records()) == whole.evaluations + 1 == len(calls) + 1
    torn = journal.path.read_bytes()[:-40]
    journal.path.write_bytes(torn)
    calls.clear()
    assert mtnas.configure(fresh, TASKS, data, out=tmp_path, **wish) == whole  # type: ignore[arg-type]
    assert len(calls) == 1
    with torch.no_grad():
        next(fresh.model.parameters()).mul_(0.5)
    with pytest.raises(CheckpointError, match="weights"):
        mtnas.configure(fresh, TASKS, data, out=tmp_path, **wish)  # type: ignore[arg-type]
    calls.clear()
    fresh.configure(**wish)  # type: ignore[arg-type]
    assert calls  # other weights: what was known in memory does not count either


def test_a_strategy_instead_of_greedy(fresh: ElasticModel, data: Dataset) -> None:
    config = ConfigureConfig(strategy="random", trials=4)
    found = mtnas.configure(fresh, TASKS, data, budget={"params": "70%"}, config=config, seed=3)
    assert found.costs["params"].value <= found.limits["params"] and found.evaluations <= 5


def test_a_smaller_image_is_one_of_the_steps(data: Dataset) -> None:
    """With widths held, only the input size is left to keep the budget; every task owns it."""
    rules = SpaceRules(shared=(1.0,), decoder=(0.25, 1.0), resolution=(0.5, 1.0))
    elastic = mtnas.make_elastic(TwoDecoders(), example(), rules=rules, prove=False)
    (size,) = (choice for choice in elastic.space.choices if choice.kind == "resolution")
    found = mtnas.configure(elastic, TASKS, data, budget={"macs": "40%"})
    assert found.arch[size.name] == size.options[0] and found.costs["macs"].value <= found.limits["macs"]
    assert decoder_sizes(elastic, found, "edges") == decoder_sizes(elastic, found, "segmentation") == [1.0]
    assert elastic.configure(budget={"macs": "100%"}).arch == elastic.space.largest


def test_what_cannot_be_kept(ready: Ready, fresh: ElasticModel, data: Dataset) -> None:
    with pytest.raises(Infeasible, match="relax params"):
        mtnas.configure(fresh, TASKS, data, budget={"params": 10})
    with pytest.raises(FloorMissed, match="lower them"):
        mtnas.configure(fresh, TASKS, data, floors={"segmentation": 100.0})
    with pytest.raises(JobError, match="did you mean 'edges'"):
        mtnas.configure(fresh, TASKS, data, preference={"edge": 1})
    with pytest.raises(JobError, match="a profile of this elastic model"):
        mtnas.configure(fresh, TASKS, data, ready.profile)


def test_configuring_leaves_the_weights_alone(fresh: ElasticModel, data: Dataset) -> None:
    fresh.calibrate_with(lambda: [torch.randn(4, 3, 32, 32)])
    fresh.statistics()
    learned = {name for name, _ in fresh.model.named_parameters()}
    before = {name: tensor for name, tensor in state_of(fresh.model).items() if name in learned}
    mtnas.configure(fresh, TASKS, data, budget={"macs": "60%"})
    after = fresh.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


# --- control ----------------------------------------------------------------------------------------------------


def test_control_measures_both_dials(
    fresh: ElasticModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"budgets": [{"macs": "50%"}, {"macs": "100%"}], "count": 3, "sweep": 2, "out": tmp_path}
    reference = {"segmentation": 1.0, "edges": 1.0}
    found = mtnas.control(fresh, TASKS, data, reference=reference, **asked)
    record = found.to_json()
    assert [row["answered"] for row in record["budgets"]] == [7, 7] and record["reference"]["what"] == "given scores"
    assert all(row["budget_error"]["macs"]["violation_rate"] == 0 for row in record["budgets"])
    assert json.loads((tmp_path / "control.json").read_text()) == record
    assert "macs=50%" in str(found) and found.mean_hypervolume >= 0
    calls = counting(monkeypatch)
    assert mtnas.control(fresh, TASKS, data, reference=reference, **asked) == found and not calls
    with pytest.raises(JobError, match="none for edges"):
        mtnas.control(fresh, TASKS, data, reference={"segmentation": 1.0}, **asked)


def test_control_without_a_word_about_budgets(fresh: ElasticModel, data: Dataset) -> None:
    """Four limits on multiply-adds between the extremes, the last of them the unpruned network's own."""
    subject = known_module.learn(fresh, tasks=mtnas.make_tasks(TASKS, data), data=data)
    budgets = default_budgets(subject.subject(subject.context(fresh, None), None))
    percents = [float(str(budget["macs"]).rstrip("%")) for budget in budgets]
    assert len(percents) == 4 and percents == sorted(percents) and percents[-1] == 100.0 and percents[0] > 5
