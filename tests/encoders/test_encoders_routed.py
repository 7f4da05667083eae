"""The task-routed vision transformer: a task's own experts alone run, are trained, and are in its file."""

from __future__ import annotations

import copy

import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.encoders.routed import RoutedMlp
from mtnas.encoders.vit import Mlp, ViT
from mtnas.encoders.vit_moe import TaskRoutedViT
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet

TASKS = ("depth", "label", "edges")
EXPERTS, CHOSEN = 6, 2


def encoder(**settings: object) -> TaskRoutedViT:
    torch.manual_seed(0)
    return TaskRoutedViT(TASKS, experts=EXPERTS, chosen=CHOSEN, width=16, depth=(1, 1, 1), **settings).eval()


def network() -> nn.Module:
    body = encoder()
    channels = [level.channels for level in body.levels]
    heads = {
        task: make_head("pooled" if task == "label" else "fpn", level_channels=channels, channels=3, width=16)
        for task in TASKS
    }
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


@pytest.fixture(scope="module")
def pair() -> tuple[ElasticModel, ElasticGraph]:
    elastic = make_elastic(network(), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, build_elastic_graph(elastic.model, elastic.example, elastic.groups)


def layer() -> RoutedMlp:
    torch.manual_seed(0)
    return RoutedMlp(TASKS, 8, 16, EXPERTS, CHOSEN)


def tokens() -> Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def test_a_task_gets_the_weighted_sum_of_its_experts() -> None:
    routed, x_BNC = layer().eval(), tokens()
    with torch.no_grad():
        routed.logits["label"].copy_(torch.tensor([0.0, 3.0, 0.0, 0.0, 2.0, 0.0]))
        routed.experts_of_label.copy_(torch.tensor([1, 4]))
    weights_E = routed.logits["label"].softmax(0)
    expected = x_BNC + sum(weights_E[e] * routed.experts[e](routed.norm(x_BNC)) for e in (1, 4))
    torch.testing.assert_close(routed(x_BNC, "label"), expected)
    assert routed.experts_of("label") == [1, 4]


def test_tasks_start_apart_and_every_expert_serves_one() -> None:
    found = [layer().experts_of(task) for task in TASKS]
    assert found == [[0, 1], [2, 3], [4, 5]]


def test_a_task_costs_what_the_dense_network_costs() -> None:
    """Experts of a task have together the hidden channels of the dense MLP; every second MLP is routed."""
    dense, routed = ViT(width=16, depth=(1, 1, 2)), TaskRoutedViT(TASKS, experts=6, chosen=2, width=16, depth=(1, 1, 2))
    kinds = [[type(part) for part in stage[1::2]] for stage in routed.stages]
    assert kinds == [[Mlp], [RoutedMlp], [Mlp, RoutedMlp]]
    hidden = routed.stages[1][1].experts[0].expand.out_features
    assert CHOSEN * hidden == dense.stages[1][1].expand.out_features


def test_training_routes_by_the_logits_and_evaluation_holds_the_choice() -> None:
    routed, x_BNC = layer(), tokens()
    with torch.no_grad():
        routed.logits["depth"].copy_(torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0, 8.0]))
    assert routed.eval().experts_of("depth") == [0, 1]  # nothing was trained with the new logits yet
    routed.train()(x_BNC, "depth")
    assert routed.eval().experts_of("depth") == [2, 5]
    assert torch.equal(routed(x_BNC, "depth"), routed(x_BNC, "depth"))
    again = layer()
    again.load_state_dict(copy.deepcopy(routed.state_dict()))
    assert torch.equal(again.eval()(x_BNC, "depth"), routed(x_BNC, "depth"))


def test_the_balance_pulls_tasks_apart() -> None:
    """Two tasks that begin with the same experts: the term alone lowers the weight where both are."""
    routed = layer()
    with torch.no_grad():
        for task in TASKS:
            routed.logits[task].copy_(torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0, 0.0]))
    for module in routed.experts:
        nn.init.zeros_(module.reduce.weight)
        nn.init.zeros_(module.reduce.bias)
    routed.train()(tokens(), "depth").sum().backward()
    gradient_E = routed.logits["depth"].grad
    assert gradient_E is not None and (gradient_E[:2] > 0).all() and (gradient_E[2:] < 0).all()


def test_training_under_bfloat16_teaches_only_the_experts_that_ran() -> None:
    body = encoder().to(memory_format=torch.channels_last).train()
    body.active_tasks = ("depth",)
    image_BCHW = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = body(image_BCHW)
        loss = sum(x.float().square().mean() for x in maps["depth"])
    assert list(maps) == ["depth"]
    loss.backward()
    routed = body.stages[1][1]
    taught = {number for number, expert in enumerate(routed.experts) if expert.expand.weight.grad is not None}
    assert len(taught) == CHOSEN
    assert routed.logits["depth"].grad is not None and routed.logits["label"].grad is None


def test_the_shared_prefix_runs_once_and_what_follows_once_per_task() -> None:
    body, calls = encoder(), {"before": 0, "after": 0}
    body.stages[1][0].register_forward_hook(lambda *_: calls.update(before=calls["before"] + 1))
    body.stages[2][0].register_forward_hook(lambda *_: calls.update(after=calls["after"] + 1))
    body(torch.randn(1, 3, 32, 32))
    assert calls == {"before": 1, "after": len(TASKS)}


def test_one_task_alone_gives_the_same() -> None:
    model, picture = network(), zoo.image(1)
    whole = model(picture)
    for task in TASKS:
        model.encoder.active_tasks = (task,)
        alone = model(picture)
        assert list(alone) == [task] and torch.equal(alone[task], whole[task])


def test_experts_belong_to_the_tasks_that_use_them(pair: tuple[ElasticModel, ElasticGraph]) -> None:
    owners = {group.name: group.owners for group in pair[0].groups}
    found = [owners[f"encoder.stages.1.1.experts.{number}.expand"] for number in range(EXPERTS)]
    assert found == [(task,) for task in TASKS for _ in range(CHOSEN)]


def test_every_cut_is_the_extracted_module_and_a_subset_holds_its_own_experts(
    pair: tuple[ElasticModel, ElasticGraph],
) -> None:
    elastic, graph = pair
    picture, rng = zoo.image(1, seed=4), generator(0, "routed")
    for selection in (Selection.of({}), *(random_selection(graph, rng) for _ in range(4))):
        statistics = elastic.statistics(selection)
        with torch.no_grad():
            expected = elastic.extract(selection, statistics=statistics)(picture)
        cut = graph.cut(selection, statistics={name: value.numpy() for name, value in statistics.items()})
        assert graph.counts(selection).macs == count_model(cut).macs
        for number, task in enumerate(TASKS):
            part = keep_outputs(cut, [task])
            found = run_model(part, picture.numpy())
            assert relative_error(found[task], expected[task].numpy()) <= 1e-4
            layers = {
                t.name.split(".experts.")[1].split(".")[0] for t in part.graph.initializer if ".experts." in t.name
            }
            assert layers == {str(CHOSEN * number + step) for step in range(CHOSEN)}


def test_more_experts_of_a_task_than_there_are_is_refused() -> None:
    with pytest.raises(JobError, match="7 of 6 experts"):
        TaskRoutedViT(TASKS, experts=6, chosen=7, width=16, depth=(1, 1))
