"""Some of the tasks: the same answers, and nothing runs that only the others need."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnxruntime
import pytest
import torch
import zoo
from test_elastic_equivalence import largest_difference, network, random_selection
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.elastic.model import FULL, ElasticModel, make_elastic
from mtnas.elastic.task_subset import Absent, only_tasks
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.subset import keep_outputs
from mtnas.heads.model import MultiTaskNet

NAMES = ("resnet", *(name for name in zoo.ZOO if len(zoo.build(name)(zoo.image())) > 1))


@pytest.fixture(scope="module", params=NAMES)
def elastic(request: pytest.FixtureRequest) -> ElasticModel:
    made = make_elastic(network(request.param), zoo.image(), round_to=4)
    made.calibrate_with(lambda: [zoo.image(4, seed=k) for k in range(2)])
    return made


def called(model: nn.Module, image_BCHW: Tensor) -> set[str]:
    """Names of the modules with weights that computed something."""
    found: set[str] = set()
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(
                lambda _m, _a, output, name=name: None if isinstance(output, Absent) else found.add(name)
            )
    with torch.no_grad():
        model(image_BCHW)
    return found


def test_same_answers_as_the_whole_network(elastic: ElasticModel) -> None:
    rng, image_BCHW = np.random.default_rng(1), zoo.image(3, seed=5)
    subsets = [s for size in range(1, len(elastic.tasks)) for s in combinations(elastic.tasks, size)]
    for number, tasks in enumerate(subsets):
        selection = random_selection(elastic, rng, number)
        with torch.no_grad():
            whole = elastic.run(image_BCHW, selection)
            part = elastic.run(image_BCHW, selection, tasks=reversed(tasks))
            taken = elastic.extract(selection, tasks=tasks)(image_BCHW)
        expected = {task: whole[task] for task in tasks}
        assert largest_difference(part, expected) < 1e-5
        assert largest_difference(taken, expected) < 1e-5


def test_what_only_the_others_need_does_not_run(elastic: ElasticModel) -> None:
    for task in elastic.tasks:
        assert not elastic.answering([task]).running
        small = elastic.extract(FULL, tasks=[task])
        others = {n for n, owners in elastic.parameter_owners.items() if task not in owners}
        left = {name for name, _ in small.named_parameters(remove_duplicate=False)}
        assert left and not left & others
        layers = {name.rpartition(".")[0] for name in others}  # one that is tied to another layer among them
        assert not called(small, zoo.image()) & layers


def test_statistics_need_the_wished_tasks_alone(elastic: ElasticModel) -> None:
    """Estimated for a task alone, they are those of the whole network, for the layers that run."""
    task = elastic.tasks[0]
    selection = random_selection(elastic, np.random.default_rng(3), 0)
    elastic.weights_changed()
    alone = elastic.statistics(selection, tasks=[task])
    whole = elastic.statistics(selection)
    assert set(alone) <= set(whole)
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, whole[name])
    for name in set(whole) - set(alone):
        assert task not in elastic.parameter_owners.get(name.replace("running_mean", "weight"), ())


def test_whole_is_whole_again_afterwards(elastic: ElasticModel) -> None:
    image_BCHW = zoo.image(2, seed=9)
    before = elastic.run(image_BCHW)
    elastic.run(image_BCHW, tasks=elastic.tasks[:1])
    assert list(elastic.run(image_BCHW)) == list(elastic.tasks)
    assert largest_difference(elastic.run(image_BCHW), before) == 0
    assert largest_difference(elastic.run(image_BCHW, tasks=elastic.tasks), before) == 0


def test_training_of_some_tasks_leaves_the_other_decoders(elastic: ElasticModel) -> None:
    task = elastic.tasks[-1]
    elastic.model.zero_grad(set_to_none=True)
    elastic.run(zoo.image(4), training=True, tasks=[task])[task].square().mean().backward()
    for name, parameter in elastic.model.named_parameters(remove_duplicate=False):
        assert (parameter.grad is not None) == (task in elastic.parameter_owners[name]), name
    elastic.model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_cut_subset_is_the_torch_subset(name: str) -> None:
    elastic = make_elastic(network(name), zoo.image(), round_to=4, prove=False)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=k) for k in range(2)])
    graph = build_elastic_graph(elastic.model, zoo.image(), elastic.groups)
    selection = random_selection(elastic, np.random.default_rng(2), 0)
    statistics = {n: t.numpy() for n, t in elastic.statistics(selection).items()}
    state = {n: t.numpy() for n, t in elastic.state().items()}
    whole = graph.cut(selection, state=state | statistics, statistics=statistics)
    for task in elastic.tasks:
        part = keep_outputs(whole, [task])
        assert len(part.graph.node) < len(whole.graph.node)
        session = onnxruntime.InferenceSession(part.SerializeToString())
        (found,) = session.run(None, {"image": zoo.image(1, seed=4).numpy()})
        with torch.no_grad():
            expected = elastic.extract(selection, tasks=[task])(zoo.image(1, seed=4))[task].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_a_subset_is_exported_like_any_module(name: str) -> None:
    model = network(name)
    task = next(iter(model(zoo.image())))
    small = only_tasks(model, [task], zoo.image())
    graph = build_elastic_graph(small, zoo.image(), ())
    assert graph.outputs == (task,)
    whole = build_elastic_graph(model, zoo.image(), ())
    expected = keep_outputs(whole.cut(Selection(())), [task])
    assert len(graph.cut(Selection(())).graph.node) == len(expected.graph.node)


class Routed(nn.Module):
    """An encoder pass for each task, with experts of its own; told by `active_tasks` whom to serve."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = zoo.conv_bn(3, 8)
        names = ("depth", "edges", "normals")
        self.experts = nn.ModuleDict({name: zoo.conv_bn(8, 8) for name in names})
        self.heads = nn.ModuleDict({name: nn.Conv2d(8, 1, 1) for name in names})
        self.active_tasks: tuple[str, ...] | None = None

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        x = self.stem(image_BCHW)
        wished = tuple(self.heads) if self.active_tasks is None else self.active_tasks
        return {name: self.heads[name](self.experts[name](x)) for name in wished}


def test_a_routed_network_runs_its_own_experts() -> None:
    model = Routed().eval()
    small = only_tasks(model, ["edges"], zoo.image())
    assert small.active_tasks == ("edges",) and model.active_tasks is None
    assert called(small, zoo.image()) == {"stem.0", "stem.1", "experts.edges.0", "experts.edges.1", "heads.edges"}
    torch.testing.assert_close(small(zoo.image())["edges"], model(zoo.image())["edges"])
    elastic = make_elastic(model, zoo.image(), prove=False)
    assert list(elastic.run(zoo.image(), tasks=["normals", "depth"])) == ["depth", "normals"]
    assert elastic.model.active_tasks is None


class Entangled(nn.Module):
    """What only `depth` seems to need decides about shapes, and writes into `edges` past its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = zoo.conv_bn(3, 8)
        self.sized, self.gate, self.own = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1), zoo.conv_bn(8, 8)
        self.depth, self.edges = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        x = self.stem(image_BCHW)
        _batch, _channels, rows, columns = self.sized(x).shape
        gate = self.gate(x)
        depth = self.depth(self.own(x)) * gate + rows + columns + self.sized(x).mean()
        return {"depth": depth, "edges": self.edges(x) * gate.detach()}


def test_modules_that_must_run_say_why() -> None:
    elastic = make_elastic(Entangled().eval(), zoo.image(), prove=False)
    subset = elastic.answering(["edges"])
    assert set(subset.removed) == {"own", "depth"}
    assert set(subset.running) == {"sized", "gate"}
    assert "does not run without it" in subset.running["sized"]
    assert "'edges'" in subset.running["gate"]
    image_BCHW = zoo.image(seed=7)
    whole, part = elastic.run(image_BCHW), elastic.run(image_BCHW, tasks=["edges"])
    torch.testing.assert_close(part, {"edges": whole["edges"]})


@pytest.mark.parametrize(("tasks", "told"), [(["depht"], "depth"), ([], "at least one task")])
def test_wrong_tasks(tasks: list[str], told: str) -> None:
    elastic = make_elastic(Routed().eval(), zoo.image(), prove=False)
    for call in (lambda: elastic.run(zoo.image(), tasks=tasks), lambda: elastic.extract(FULL, tasks=tasks)):
        with pytest.raises(JobError, match=told):
            call()
    with pytest.raises(JobError, match=told):
        only_tasks(Routed(), tasks, zoo.image())


def test_a_joint_decoder_is_left_out_with_its_tasks() -> None:
    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth, self.edges = nn.Conv2d(16, 1, 1), nn.Conv2d(16, 1, 1)

        def forward(self, maps: list[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
            return {"depth": self.depth(maps[0]), "edges": self.edges(maps[0])}

    own = network("resnet")
    model = MultiTaskNet(own.encoder, {"presence": own.heads["presence"]}, Joint(), ("depth", "presence", "edges"))
    whole = model.eval()(zoo.image())
    for tasks in (["presence"], ["edges"], ["depth", "presence"]):
        small = only_tasks(model, tasks, zoo.image())
        torch.testing.assert_close(small(zoo.image()), {task: whole[task] for task in tasks})
        left = {name for name, _ in small.named_parameters()}
        for task in ("depth", "edges"):
            assert (f"joint.{task}.weight" in left) == (task in tasks)
