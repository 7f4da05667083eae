"""Training, profiling and searching through the public functions: folders, continuing, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import depth_zoo
import pytest
import torch
from api_subject import QUICK, TASKS, TRAIN, Chain, Ready, example, same, state_of, user_data, user_model
from torch import Tensor, nn

import mtnas
from mtnas.base.errors import FloorMissed, Infeasible, JobError
from mtnas.base.groups import Selection
from mtnas.base.journal import Journal
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import ElasticModel
from mtnas.graph.build import build_elastic_graph
from mtnas.search.config import SearchConfig
from mtnas.space.rules import SpaceRules
from mtnas.stages.evaluate import Evaluator


def test_training_continues_in_its_folder(tmp_path: Path) -> None:
    """The same call trains no step twice; another setting sets the folder aside."""
    data = user_data()
    elastic = mtnas.make_elastic(user_model(), example(), prove=False)
    mtnas.train(elastic, TASKS, data, config=TRAIN, out=tmp_path)
    curves = (tmp_path / "2-train" / "curves.jsonl").read_text()
    for _ in range(2):
        other = mtnas.make_elastic(user_model(), example(), prove=False)
        mtnas.train(other, TASKS, data, config=TRAIN, out=tmp_path)
    assert (tmp_path / "2-train" / "curves.jsonl").read_text() == curves
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in elastic.state().items())
    mtnas.train(other, TASKS, data, config=replace(TRAIN, lr=1e-4), out=tmp_path)
    assert (tmp_path / "2-train.superseded-1" / "curves.jsonl").read_text() == curves


def test_fine_tuning_continues_in_its_folder(ready: Ready, tmp_path: Path) -> None:
    """And a mapping of tasks, without a teacher, is fine too."""
    network = ready.elastic.extract(ready.elastic.space.smallest)
    tasks = mtnas.make_tasks(["edges"], ready.data)
    first = mtnas.finetune(network, tasks, ready.data, epochs=1, out=tmp_path)
    for _ in range(2):
        again = mtnas.finetune(network, tasks, ready.data, epochs=1, out=tmp_path)
        assert same(state_of(first.model), again.model) and again.result == first.result


def test_every_output_that_is_a_target_is_a_task(ready: Ready) -> None:
    assert list(mtnas.make_tasks(None, ready.data, ready.elastic.tasks)) == TASKS
    assert list(mtnas.make_tasks(None, ready.data)) == list(ready.data.info.targets)


def test_tasks_that_are_none(ready: Ready) -> None:
    with pytest.raises(JobError, match="did you mean 'edges'"):
        mtnas.train(ready.elastic, ["edge"], ready.data)
    with pytest.raises(JobError, match="tasks out of the network's outputs"):
        mtnas.search(ready.elastic, ["depth"], ready.data, ready.profile)
    with pytest.raises(JobError, match="none of them is a target"):
        mtnas.make_tasks(None, ready.data, ("near", "far"))


def test_a_profile_is_saved_and_read(ready: Ready, tmp_path: Path) -> None:
    ready.profile.save(tmp_path)
    again = mtnas.load_profile(tmp_path)
    assert again.config == ready.profile.config and again.full == ready.profile.full
    selection = ready.elastic.selection(ready.elastic.space.smallest)
    assert again.predict(selection) == ready.profile.predict(selection)
    front = mtnas.search(ready.elastic, TASKS, ready.data, again, trials=3)
    assert front.trials


def test_profiling_continues_in_its_folder(tmp_path: Path) -> None:
    elastic = mtnas.make_elastic(Chain(), example(), prove=False)
    first = mtnas.profile(elastic, config=replace(QUICK, samples=6), out=tmp_path)
    for _ in range(2):
        again = mtnas.profile(elastic, config=replace(QUICK, samples=6), out=tmp_path)
        assert [point.record for point in first.record.points] == [point.record for point in again.record.points]
        assert again.record.created == first.record.created


def test_a_search_is_not_repeated(ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"floors": {"edges": "-100%"}, "trials": 5, "out": tmp_path, "seed": 4}
    front = mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, **settings)
    journal = Journal(tmp_path / "4-search" / "trials.jsonl")
    assert len(journal.records()) == 5 + 1
    assert front.full is not None and front.full.arch == ready.elastic.space.largest

    def refuse(evaluator: Evaluator, arch: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(Evaluator, "__call__", refuse)
    assert mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, **settings) == front
    with pytest.raises(AssertionError, match="evaluated again"):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, **{**settings, "seed": 5})


def test_an_interrupted_search_continues(ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"config": SearchConfig(trials=6, strategy="random", random_trials=0), "out": tmp_path}
    honest, calls = Evaluator.__call__, 0

    def interrupted(evaluator: Evaluator, arch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return honest(evaluator, arch)

    monkeypatch.setattr(Evaluator, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, **settings)
    mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, **settings)
    assert calls == 4 + 3
    numbers = [record["number"] for record in Journal(tmp_path / "4-search" / "trials.jsonl").records()[1:]]
    assert numbers == list(range(6))


def test_bounds_that_cannot_be_kept(ready: Ready) -> None:
    with pytest.raises(Infeasible, match="relax latency_ms"):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, budget={"latency_ms": 1e-6})
    with pytest.raises(Infeasible, match="params"):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, budget={"params": 10})
    with pytest.raises(FloorMissed, match=r"floors\.segmentation"):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, floors={"segmentation": 100.0})
    with pytest.raises(JobError, match="did you mean 'segmentation'"):
        mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, floors={"segmentatoin": "-3%"})


def test_the_profile_of_another_model_is_refused(ready: Ready) -> None:
    other = mtnas.make_elastic(Chain(), example(), prove=False)
    with pytest.raises(JobError, match="a profile of networks that answer depth"):
        mtnas.search(other, ["depth"], ready.data, ready.profile)
    narrower = user_model()
    narrower.segmentation = nn.Conv2d(16, 5, 1)
    with pytest.raises(JobError, match="a profile of this elastic model"):
        mtnas.search(mtnas.make_elastic(narrower, example(), prove=False), TASKS, ready.data, ready.profile)
    larger = mtnas.make_elastic(user_model(), torch.randn(1, 3, 48, 32), prove=False)
    with pytest.raises(JobError, match="48"):
        mtnas.search(larger, TASKS, ready.data, ready.profile)


class WithBlock(nn.Module):
    """One block that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 16, 3, 2, 1), depth_zoo.Residual()
        self.depth = nn.Conv2d(16, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.block(self.stem(image_BCHW)))}


def test_a_profile_that_knows_no_depth_is_refused(ready: Ready) -> None:
    elastic = mtnas.make_elastic(WithBlock(), example(), rules=SpaceRules(depth=True), prove=False)
    assert elastic.skippable == ("block",)
    graph = build_elastic_graph(elastic.model, elastic.example, elastic.groups)
    with pytest.raises(JobError, match=r"(?s)a profile that leaves out block.*one that leaves out no block"):
        mtnas.search(elastic, ["depth"], ready.data, replace(ready.profile, graph=graph))


class WithFork(nn.Module):
    """One depthwise convolution that is chosen."""

    def __init__(self, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 1, 1)
        options = {f"k{k}": nn.Conv2d(16, 16, k, padding=k // 2, groups=16) for k in kernels}
        self.kernel = mtnas.OneOf(options)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        return {"depth": self.depth(self.kernel(self.stem(image_BCHW)))}


def test_a_profile_of_other_forks_is_refused(ready: Ready) -> None:
    """The channel groups are the same with and without the choice, and whatever there is to choose."""

    def elastic(kernels: tuple[int, ...], operators: bool) -> ElasticModel:
        rules = SpaceRules(operators=operators)
        return mtnas.make_elastic(WithFork(kernels), example(), rules=rules, prove=False)

    searched = elastic((3, 5), True)
    for kernels, operators, told in (((3, 5), False, "none"), ((3, 7), True, r"kernel \(k3, k7\)")):
        profile = replace(ready.profile, graph=graph_of(elastic(kernels, operators)))
        expected = r"(?s)a profile with these forks: kernel \(k3, k5\).*received: " + told
        with pytest.raises(JobError, match=expected):
            mtnas.search(searched, ["depth"], ready.data, profile)


def test_a_profile_of_other_input_sizes_is_refused(ready: Ready) -> None:
    elastic = mtnas.make_elastic(user_model(), example(), rules=SpaceRules(resolution=(0.5,)), prove=False)
    assert elastic.inputs.sizes
    with pytest.raises(JobError, match=r"(?s)a profile of the input sizes \d+x\d+, full.*one of full"):
        mtnas.search(elastic, TASKS, ready.data, ready.profile)


def test_a_search_after_training_on_ones_own_is_known_again(ready: Ready, tmp_path: Path) -> None:
    """Statistics that the changed weights void are estimated before the call is looked up."""
    elastic = mtnas.make_elastic(user_model(), example(), prove=False)
    elastic.load_state(ready.elastic.state())
    settings: dict[str, Any] = {"trials": 2, "out": tmp_path}
    front = mtnas.search(elastic, TASKS, ready.data, ready.profile, **settings)
    assert mtnas.search(elastic, TASKS, ready.data, ready.profile, **settings) == front
    assert not list(tmp_path.glob("*superseded*"))


def test_searching_leaves_the_weights_alone(ready: Ready) -> None:
    before = state_of(ready.elastic.model)
    mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, trials=3)
    assert same(before, ready.elastic.model)


def test_extract_takes_anything_with_an_arch(ready: Ready) -> None:
    front = mtnas.search(ready.elastic, TASKS, ready.data, ready.profile, trials=3)
    trial = front.trials[-1]
    assert ready.elastic.selection(trial) == ready.elastic.selection(trial.arch)
    assert isinstance(ready.elastic.selection(trial), Selection)


def test_rules_by_name_and_devices_that_are_none() -> None:
    coarse = mtnas.make_elastic(Chain(), example(), rules="coarse", prove=False)
    fine = mtnas.make_elastic(Chain(), example(), rules="fine", prove=False)
    assert coarse.space.log10_size < fine.space.log10_size
    with pytest.raises(JobError, match="did you mean 'local-ort'"):
        mtnas.profile(coarse, device="local-ortt")
