"""The task-routed vision transformer: a task's own experts alone run, are trained, and are in its file."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections import Counter

import onnx
import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.base.seeds import generator
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import FULL, ElasticModel, make_elastic
from mtnas.elastic.task_subset import only_tasks
from mtnas.encoders.routed import Expert, OwnExperts, RoutedMlp, SharedExperts, deal
from mtnas.encoders.routed_learned import LearnedExperts
from mtnas.encoders.routed_tokens import TokenExperts
from mtnas.encoders.vit import Mlp, ViT
from mtnas.encoders.vit_moe import TaskRoutedViT
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model
from mtnas.graph.subset import keep_outputs
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from mtnas.space.rules import SpaceRules

TASKS = ("depth", "label", "edges")
EXPERTS, TOP_K = 6, 2


def encoder(**settings: object) -> TaskRoutedViT:
    torch.manual_seed(0)
    return TaskRoutedViT(TASKS, **{"top_k": TOP_K, "width": 16, "depth": (1, 1, 1), **settings}).eval()  # type: ignore[arg-type]


def network(**settings: object) -> nn.Module:
    body = encoder(**settings)
    channels = [level.channels for level in body.levels]
    heads = {
        task: make_head("pooled" if task == "label" else "fpn", level_channels=channels, channels=3, width=16)
        for task in TASKS
    }
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    return model.eval()


@pytest.fixture(scope="module", params=["own", "shared"])
def pair(request: pytest.FixtureRequest) -> tuple[ElasticModel, ElasticGraph]:
    """With experts of every task's own, whose number is a choice, and with two for all three tasks."""
    model = network(experts=0 if request.param == "own" else 4)
    elastic = make_elastic(model, zoo.image(), round_to=4, rules=SpaceRules(experts=True))
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    return elastic, graph_of(elastic)


def tokens() -> Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def learned() -> LearnedExperts:
    torch.manual_seed(0)
    return LearnedExperts(TASKS, 8, 16, EXPERTS, TOP_K)


# --- the layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "experts", "top_k"), [(3, 6, 2), (20, 16, 4), (5, 4, 2), (4, 8, 1), (7, 12, 3)])
def test_experts_are_dealt_out_evenly_and_tasks_differ(tasks: int, experts: int, top_k: int) -> None:
    dealt, each = deal(tasks, experts, top_k), experts // top_k
    for rank in range(top_k):
        used = Counter(own[rank] for own in dealt)
        assert set(used) <= set(range(rank * each, (rank + 1) * each))
        assert max(used.values()) - min(used.get(e, 0) for e in range(rank * each, (rank + 1) * each)) <= 1
    assert top_k == 1 or len(set(dealt)) == min(tasks, each**2)


def test_a_task_gets_the_weighted_sum_of_its_own_experts() -> None:
    torch.manual_seed(0)
    routed, x_BNC = OwnExperts(TASKS, 8, 16, EXPERTS, TOP_K), tokens()
    nn.init.normal_(routed.logits["label"])
    weights_K, normed_BNC = routed.logits["label"].softmax(0), routed.norm(x_BNC)
    branches = routed.own["label"].branches
    parts = [weights_K[k] * e.reduce(e.gelu(e.expand(normed_BNC))) for k, e in enumerate(branches)]
    torch.testing.assert_close(routed(x_BNC, "label"), x_BNC + parts[0] + parts[1])
    assert [routed.experts_of(task) for task in TASKS] == [[0, 1], [2, 3], [4, 5]]


def test_tasks_weigh_the_experts_they_share_by_themselves() -> None:
    torch.manual_seed(0)
    routed, x_BNC = SharedExperts(TASKS, 8, 16, 2, 2), tokens()
    assert [routed.experts_of(task) for task in TASKS] == [[0, 1]] * 3
    with torch.no_grad():
        routed.logits["label"].copy_(torch.tensor([0.0, 2.0]))
    results = torch.stack([expert(routed.norm(x_BNC)) for expert in routed.experts])
    for task, first in (("depth", 0.5), ("label", 1 / (1 + math.exp(2.0)))):
        torch.testing.assert_close(routed(x_BNC, task), x_BNC + first * results[0] + (1 - first) * results[1])


def test_a_task_costs_what_the_dense_network_costs() -> None:
    """Experts of a task have together the hidden channels of the dense MLP; every second MLP is routed."""
    dense, routed = ViT(width=16, depth=(1, 1, 2)), TaskRoutedViT(TASKS, top_k=2, width=16, depth=(1, 1, 2))
    kinds = [[type(part) for part in stage[1::2]] for stage in routed.stages]
    assert kinds == [[Mlp], [OwnExperts], [Mlp, OwnExperts]]
    hidden = routed.stages[1][1].own["depth"].branches[0].expand.out_features
    assert TOP_K * hidden == dense.stages[1][1].expand.out_features


def test_there_are_no_experts_that_nobody_runs() -> None:
    """A network of one task has that task's, however many were asked for."""
    (one,) = [m for m in TaskRoutedViT(["a"], experts=8, top_k=2, width=16, depth=(1, 1)).modules() if is_routed(m)]
    assert isinstance(one, OwnExperts) and one.experts_of("a") == [0, 1]
    (two,) = [m for m in TaskRoutedViT(TASKS, experts=4, top_k=2, width=16, depth=(1, 1)).modules() if is_routed(m)]
    assert isinstance(two, SharedExperts) and {e for task in TASKS for e in two.experts_of(task)} == {0, 1, 2, 3}


def is_routed(module: nn.Module) -> bool:
    return isinstance(module, RoutedMlp)


# --- learned routing --------------------------------------------------------------------------------------------------


def test_a_learned_task_gets_the_weighted_sum_of_the_largest() -> None:
    routed, x_BNC = learned().eval(), tokens()
    with torch.no_grad():
        routed.logits["label"].copy_(torch.tensor([0.0, 3.0, 0.0, 0.0, 2.0, 0.0]))
        routed.experts_of_label.copy_(torch.tensor([1, 4]))
    weights_E = routed.logits["label"].softmax(0)
    expected = x_BNC + sum(weights_E[e] * routed.experts[e](routed.norm(x_BNC)) for e in (1, 4))
    torch.testing.assert_close(routed(x_BNC, "label"), expected)
    assert routed.experts_of("label") == [1, 4]


def test_training_routes_by_the_logits_and_evaluation_holds_the_choice() -> None:
    routed, x_BNC = learned(), tokens()
    with torch.no_grad():
        routed.logits["depth"].copy_(torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0, 8.0]))
    assert routed.eval().experts_of("depth") == [0, 1]  # nothing was trained with the new logits yet
    routed.train()(x_BNC, "depth")
    assert routed.eval().experts_of("depth") == [2, 5]
    assert torch.equal(routed(x_BNC, "depth"), routed(x_BNC, "depth"))
    again = learned()
    again.load_state_dict(copy.deepcopy(routed.state_dict()))
    assert torch.equal(again.eval()(x_BNC, "depth"), routed(x_BNC, "depth"))


def test_an_elastic_model_holds_the_routing_it_was_made_with() -> None:
    """Training it runs layers in training mode, but chooses no experts: its groups and its graph stay true."""
    model = network(routing="learned", experts=EXPERTS)
    elastic = make_elastic(model, zoo.image(), round_to=4)
    (layer,) = [module for module in elastic.model.modules() if is_routed(module)]
    before = {task: layer.experts_of(task) for task in TASKS}
    with torch.no_grad():
        layer.logits["depth"].copy_(torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0, 8.0]))
    elastic.run(zoo.image(), training=True)
    assert {task: layer.experts_of(task) for task in TASKS} == before


def test_the_balance_pulls_tasks_apart() -> None:
    """Two tasks that begin with the same experts: the term alone lowers the weight where both are."""
    routed = learned()
    with torch.no_grad():
        for task in TASKS:
            routed.logits[task].copy_(torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0, 0.0]))
    for module in routed.experts:
        nn.init.zeros_(module.reduce.weight)
        nn.init.zeros_(module.reduce.bias)
    routed.train()(tokens(), "depth").sum().backward()
    gradient_E = routed.logits["depth"].grad
    assert gradient_E is not None and (gradient_E[:2] > 0).all() and (gradient_E[2:] < 0).all()


# --- token by token ---------------------------------------------------------------------------------------------------


def tokenwise() -> TokenExperts:
    torch.manual_seed(0)
    return TokenExperts(TASKS, 8, 16, EXPERTS, TOP_K)


def test_every_token_gets_the_largest_of_its_own_gate() -> None:
    routed, x_BNC = tokenwise().eval(), tokens()
    normed_BNC = routed.norm(x_BNC)
    weights_BNE = routed.gates["label"](normed_BNC).softmax(-1)
    expected, asked = x_BNC.clone(), set()
    for b, n in itertools.product(range(2), range(5)):
        for e in weights_BNE[b, n].topk(TOP_K).indices.tolist():
            expected[b, n] += weights_BNE[b, n, e] * routed.experts[e](normed_BNC[b, n])
            asked.add(e)
    torch.testing.assert_close(routed(x_BNC, "label"), expected)
    assert len(asked) > TOP_K and routed.experts_of("label") == list(range(EXPERTS))


def test_the_balance_of_tokens_lowers_what_all_ask_for() -> None:
    """Tokens that all lean to one expert: with experts that answer nothing, the term alone moves the gate off it."""
    routed, x_BNC = tokenwise().train(), tokens().abs()
    routed.norm = nn.Identity()
    with torch.no_grad():
        routed.gates["depth"].weight.zero_()
        routed.gates["depth"].weight[3] = 0.2
        for expert in routed.experts:
            expert.reduce.weight.zero_()
            expert.reduce.bias.zero_()
    routed(x_BNC, "depth").sum().backward()
    gradient_EC = routed.gates["depth"].weight.grad
    assert gradient_EC is not None
    assert (gradient_EC[3] > 0).all() and (gradient_EC[[0, 1, 2, 4, 5]] < 0).all()


def test_one_task_of_a_token_routed_network_is_not_taken_out() -> None:
    """It runs, and is trained, for any of the tasks; a file for one of them would hold everybody's experts."""
    model = network(routing="token", experts=3)
    elastic = make_elastic(model, zoo.image(), round_to=4)
    assert list(elastic.run(zoo.image(), training=True, tasks=["depth"])) == ["depth"]
    for taking in (lambda: only_tasks(model, ["depth"], zoo.image()), lambda: elastic.extract(FULL, tasks=["depth"])):
        with pytest.raises(JobError, match=r"any token may ask for any of them(.|\n)*routing: task"):
            taking()
    assert list(only_tasks(model, TASKS, zoo.image())(zoo.image())) == list(TASKS)


def test_a_token_routed_network_is_cut_like_any_other_and_each_task_needs_all_experts() -> None:
    elastic = make_elastic(network(routing="token", experts=3), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=9)])
    graph, rng, picture = graph_of(elastic), generator(0, "tokens"), zoo.image(1, seed=4)
    for selection in (FULL, random_selection(graph, rng), random_selection(graph, rng)):
        small = elastic.extract(selection)
        statistics = {name: value.numpy() for name, value in elastic.statistics(selection).items()}
        with torch.no_grad():
            expected = small(picture)
        found = run_model(graph.cut(selection, statistics=statistics), picture.numpy())
        assert max(relative_error(found[task], expected[task].numpy()) for task in TASKS) <= 1e-4
    for task in TASKS:
        assert experts_in(keep_outputs(graph.cut(FULL), [task])) == {f"experts.{number}" for number in range(3)}


# --- the encoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ["task", "learned"])
def test_training_under_bfloat16_teaches_only_the_experts_that_ran(routing: str) -> None:
    body = encoder(routing=routing, experts=EXPERTS).to(memory_format=torch.channels_last).train()
    body.active_tasks = ("depth",)
    image_BCHW = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = body(image_BCHW)
        loss = sum(x.float().square().mean() for x in maps["depth"])
    assert list(maps) == ["depth"]
    loss.backward()
    routed = body.stages[1][1]
    taught = [
        expert for expert in routed.modules() if isinstance(expert, Expert) and expert.expand.weight.grad is not None
    ]
    assert len(taught) == TOP_K
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
    owners = {group.name: group.owners for group in pair[0].groups if group.name.endswith(".expand")}
    routed = {name: own for name, own in owners.items() if name.startswith("encoder.stages.1.1.")}
    if own_experts(pair[0]):
        named = {f"encoder.stages.1.1.own.{task}.branches.{k}.expand": (task,) for task in TASKS for k in range(TOP_K)}
        assert routed == named
    else:  # the third task takes one of each pair
        assert sorted(routed.values()) == [("depth",), ("depth", "edges"), ("label",), ("label", "edges")]


def own_experts(elastic: ElasticModel) -> bool:
    return any(isinstance(module, OwnExperts) for module in elastic.model.modules())


def test_how_many_experts_a_task_runs_is_its_choice_unless_it_shares_them(
    pair: tuple[ElasticModel, ElasticGraph],
) -> None:
    elastic, graph = pair
    choices = {choice.name: choice for choice in elastic.space.choices if choice.kind == "experts"}
    if not own_experts(elastic):
        assert not choices and not elastic.forks
        return
    place = "encoder.stages.1.1.own"
    assert {name: (c.options, c.owners) for name, c in choices.items()} == {
        f"{place}.{task}/experts": ((1, 2), (task,)) for task in TASKS
    }
    fewer = Selection.of({}, chosen={f"{place}.edges": "1"})
    whole, small = (graph.counts(selection).branches for selection in (Selection.of({}), fewer))
    assert {task for task in TASKS if small[task].macs < whole[task].macs} == {"edges"}
    assert small["edges"].params == whole["edges"].params - sum(
        p.numel() for p in elastic.model.get_submodule(f"{place}.edges.branches.1").parameters()
    )


def test_every_cut_is_the_extracted_module_and_a_subset_holds_its_own_experts(
    pair: tuple[ElasticModel, ElasticGraph],
) -> None:
    elastic, graph = pair
    picture, rng = zoo.image(1, seed=4), generator(0, "routed")
    selections = [elastic.selection(elastic.space.smallest), *(random_selection(graph, rng) for _ in range(4))]
    for selection in (Selection.of({}), *(s.compact(elastic.groups, elastic.open_forks) for s in selections)):
        statistics = elastic.statistics(selection)
        small = elastic.extract(selection, statistics=statistics)
        with torch.no_grad():
            expected = small(picture)
        cut = graph.cut(selection, statistics={name: value.numpy() for name, value in statistics.items()})
        counts = graph.counts(selection)
        assert counts.macs == count_model(cut).macs
        assert counts.params == sum(parameter.numel() for parameter in small.parameters())
        for task in TASKS:
            part = keep_outputs(cut, [task])
            found = run_model(part, picture.numpy())
            assert relative_error(found[task], expected[task].numpy()) <= 1e-4
            alone = elastic.extract(selection, statistics=statistics, tasks=[task])
            assert experts_in(part) == experts_in_module(alone)
            count = int(dict(selection.chosen).get(f"encoder.stages.1.1.own.{task}", TOP_K))
            assert len(experts_in(part)) == count


def experts_in(model: onnx.ModelProto) -> set[str]:
    """Experts of the routed MLP whose weights a file holds."""
    found = (re.search(r"(own\.\w+\.branches|experts)\.\d+", tensor.name) for tensor in model.graph.initializer)
    return {match[0] for match in found if match}


def experts_in_module(model: nn.Module) -> set[str]:
    found = (re.search(r"(own\.\w+\.branches|experts)\.\d+", name) for name in model.state_dict())
    return {match[0] for match in found if match}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 3}, "3 tasks, 3 experts, top_k 2"),
        ({"top_k": 0}, "3 tasks, 16 experts, top_k 0"),
        ({"routing": "learned", "experts": 1}, "1 experts, top_k 2"),
        ({"routing": "tasks"}, "did you mean 'task'"),
    ],
)
def test_experts_that_cannot_be_dealt_out_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        encoder(**settings)
