"""Balancing inside a training: the right gradients on the right parameters, what a step costs, exact resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from train_toys import Stop, ToySplit, drawn, plain_config, same, sandwich_config, toy_elastic, toy_net, toy_tasks

from mtnas.base.optional import available
from mtnas.data.base import Batch
from mtnas.elastic.model import ElasticModel
from mtnas.train import loop
from mtnas.train.backward import TaskByTask, gram, make_backward, moved, shared_parameters
from mtnas.train.balance.fixed import Fixed
from mtnas.train.balance.gradient import GradientBalance
from mtnas.train.balance.table import BALANCES, EXTRAS
from mtnas.train.checkpoint import load_weights
from mtnas.train.finetune import Plain, finetune
from mtnas.train.loop import Sandwich, train
from mtnas.train.objective import StepBatch
from mtnas.train.precision import Mode

PLAIN = Mode("float32", channels_last=False)
HERE = sorted(name for name in BALANCES if all(available(package) for package in EXTRAS.get(name, ())))


class Ones(GradientBalance):
    """Adds gradients as they are: the plain sum, on the way of the methods that weigh them."""

    def solve(self, gram_PP: Tensor) -> Tensor:
        return torch.ones(len(gram_PP))


class Partly(ToySplit):
    """The toy images; in every other batch none has a depth label."""

    def batch(self, indices: np.ndarray, augment: np.random.Generator | None = None) -> Batch:
        image, targets = super().batch(indices, augment)
        if int(np.asarray(indices)[0]) % 2:
            targets["depth"] = torch.zeros_like(targets["depth"])
        return image, targets


def step_batch(step: int = 0) -> StepBatch:
    image, targets = ToySplit().batch(np.arange(6))
    return StepBatch(step, image, targets, PLAIN)


def gradients(objective: Sandwich | Plain, step: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(step)
    objective.module.zero_grad()
    objective.accumulate(step_batch(step))
    return {name: p.grad.clone() for name, p in objective.module.named_parameters() if p.grad is not None}


def sandwich(**settings: object) -> Sandwich:
    return Sandwich(toy_elastic(), toy_tasks(), sandwich_config(**settings), seed=0)


def close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name], rtol=1e-3, atol=tolerance)


# --- which gradients ------------------------------------------------------------------------------------------------


def test_task_by_task_with_equal_weights_is_the_plain_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sandwich, and in fine-tuning with a teacher."""
    fixed = [sandwich(), Plain(toy_net(), toy_tasks(), plain_config(), toy_net(1).eval())]
    for module in ("loop", "finetune"):
        monkeypatch.setattr(f"mtnas.train.{module}.make_balance", lambda name, weights: Ones(weights))
    ones = [sandwich(), Plain(toy_net(), toy_tasks(), plain_config(), toy_net(1).eval())]
    for first, second in zip(fixed, ones, strict=True):
        close(gradients(first), gradients(second))


def test_shared_gradients_are_the_weighted_rows_summed_over_the_sub_networks() -> None:
    """Written out by hand for Nash-MTL: rows over the whole sandwich, one set of weights, own parameters as ever."""
    objective = sandwich(balance="nash")
    elastic, tasks, config = objective.elastic, objective.tasks, objective.config
    found = gradients(objective, 5)
    plain = gradients(sandwich(), 5)
    batch = step_batch(5)
    archs = drawn(elastic.space, loop.generator(0, "archs", 5), config)
    teacher = elastic.run(batch.image_BCHW, objective.largest, training=True)
    totals = {name: task.spec.weight * task.loss(teacher[name], batch.targets[name]) for name, task in tasks.items()}
    for arch in archs:
        outputs = elastic.run(batch.image_BCHW, elastic.selection(arch), training=True)
        for name, task in tasks.items():
            pull = task.distill(outputs[name], teacher[name].detach())
            label = task.loss(outputs[name], batch.targets[name])
            totals[name] = totals[name] + task.spec.weight * (0.5 * label + 0.5 * pull)
    names = {id(p): name for name, p in elastic.model.named_parameters()}
    shared = objective.backward.shared
    assert {names[id(p)].split(".")[0] for p in shared} == {"encoder"}
    rows = [
        torch.autograd.grad(total / (1 + len(archs)), shared, retain_graph=True, allow_unused=True)
        for total in totals.values()
    ]
    weight_T = objective.balance.combine(gram(rows))
    for parameter, *parts in zip(shared, *rows, strict=True):
        wanted = sum(w.float() * part for w, part in zip(weight_T, parts, strict=True))
        torch.testing.assert_close(found[names[id(parameter)]], wanted, rtol=1e-3, atol=1e-6)
    own = {name for name in found if not name.startswith("encoder")}
    assert own
    close({name: found[name] for name in own}, {name: plain[name] for name in own})


def test_owners_decide_what_is_shared() -> None:
    model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("all", "two", "one", "none", "frozen")})
    model["frozen"].requires_grad_(False)
    owners = {"all.weight": "abc", "two.weight": "ab", "one.weight": "a", "frozen.weight": "abc"}
    assert shared_parameters(model, owners) == [model["all"].weight, model["two"].weight]


def test_inner_products_of_rows_with_gaps() -> None:
    rows = [[torch.tensor([1.0, 2.0]), None], [torch.tensor([3.0, -1.0]), torch.tensor([[2.0]])], [None, None]]
    assert gram(rows).tolist() == [[5.0, 1.0, 0.0], [1.0, 14.0, 0.0], [0.0, 0.0, 0.0]]
    assert gram([[None], [None]]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


# --- flat minima ----------------------------------------------------------------------------------------------------


class Bowl(nn.Module):
    """Two losses 0.5 x^T H x in a shared x, each with an own parameter on top."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.own_a = nn.Parameter(torch.tensor([3.0]))
        self.own_b = nn.Parameter(torch.tensor([-1.0]))
        self.curve_TN = torch.tensor([[1.0, 4.0], [9.0, 0.5]])

    def losses(self) -> dict[str, Tensor]:
        base = 0.5 * (self.curve_TN @ self.shared**2)
        return {"a": base[0] + self.own_a.square().sum(), "b": base[1] + 3 * self.own_b.square().sum()}


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 0.5}])
def test_flat_gradients_are_those_of_the_steepest_point(weights: dict[str, float]) -> None:
    """Phan et al., algorithm 1. For 0.5 x^T H x with g = H x, the gradient at x + rho g / |g| is g + rho H g / |g|."""
    bowl, rho = Bowl(), 0.1
    before = {name: p.detach().clone() for name, p in bowl.named_parameters()}
    backward = make_backward(Fixed(weights), bowl, [bowl.shared], rho)
    backward.largest(bowl.losses(), 1.0, bowl.losses)
    backward.finish()
    slope_TN = bowl.curve_TN * before["shared"]
    flat_TN = slope_TN + rho * bowl.curve_TN * slope_TN / slope_TN.norm(dim=1, keepdim=True)
    weight_T = torch.tensor(list(weights.values()))
    torch.testing.assert_close(bowl.shared.grad, weight_T @ flat_TN)
    torch.testing.assert_close(bowl.own_a.grad, weight_T[0] * torch.tensor([2 * (3.0 + rho)]))
    torch.testing.assert_close(bowl.own_b.grad, weight_T[1] * torch.tensor([6 * (-1.0 - rho)]))
    assert all(torch.equal(p, before[name]) for name, p in bowl.named_parameters())


def test_flat_parts_are_weighed_by_themselves() -> None:
    """g = AGG(g_i) + AGG(g_i at the steepest point - g_i)."""
    from mtnas.train.balance.make import make_balance

    bowl, rho = Bowl(), 0.1
    balance = make_balance("nash", {"a": 1.0, "b": 1.0})
    backward = make_backward(balance, bowl, [bowl.shared], rho)
    assert isinstance(backward, TaskByTask)
    backward.largest(bowl.losses(), 1.0, bowl.losses)
    backward.finish()
    slope_TN = bowl.curve_TN * bowl.shared.detach()
    change_TN = rho * bowl.curve_TN * slope_TN / slope_TN.norm(dim=1, keepdim=True)
    wanted = sum(balance.combine(rows @ rows.T) @ rows for rows in (slope_TN, change_TN))
    torch.testing.assert_close(bowl.shared.grad, wanted, rtol=1e-4, atol=1e-5)


def test_a_radius_moves_the_sandwich_and_a_small_one_hardly() -> None:
    plain, near, far = (gradients(sandwich(flat_radius=radius)) for radius in (0.0, 1e-6, 0.5))
    scale = max(float(gradient.abs().max()) for gradient in plain.values())
    close(plain, near, 2e-3 * scale)
    assert any(not torch.allclose(plain[name], far[name], rtol=0.05, atol=1e-3 * scale) for name in plain)


def test_the_second_look_sees_the_same_dropout() -> None:
    """Other masks would make the difference of the two gradients noise."""

    def near(radius: float) -> dict[str, Tensor]:
        model = toy_net().train()
        model.encoder.stem.append(nn.Dropout(0.5))
        return gradients(Plain(model, toy_tasks(), plain_config(flat_radius=radius), None))

    plain = near(0.0)
    scale = max(float(gradient.abs().max()) for gradient in plain.values())
    close(plain, near(1e-6), 2e-3 * scale)


def test_parameters_come_back_to_the_bit_even_after_an_error() -> None:
    weights = nn.Parameter(torch.tensor([1.0, 1e-7, 1e7]))
    before = weights.detach().clone()

    def fail() -> None:
        with moved([weights], [torch.ones(3)], 0.3):
            torch.testing.assert_close((weights.detach() - before)[:1], torch.full((1,), 0.3 / 3**0.5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(weights, before)
    with moved([weights], [torch.zeros(3)], 0.3):
        assert torch.equal(weights, before)


# --- whole trainings ------------------------------------------------------------------------------------------------

BFLOAT = {"precision": "bfloat16", "channels_last": "always"}
EVERY = [
    *({"balance": name} for name in HERE),
    {"flat_radius": 0.05},
    {"balance": "famo", "flat_radius": 0.05, **BFLOAT},
    {"balance": "nash", **BFLOAT},
]


@pytest.mark.parametrize("settings", EVERY, ids=lambda settings: "-".join(map(str, settings.values())))
def test_interrupted_equals_uninterrupted_on_partly_labelled_batches(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    settings = {"epochs": 2, "checkpoint_seconds": 0.0, "random_widths": 1, "batch_size": 2, **settings}

    def start(out: str, stop: int = 0) -> ElasticModel:
        elastic = toy_elastic()
        arguments = (toy_tasks(), Partly(6), sandwich_config(**settings), tmp_path / out)
        train(elastic, *arguments, seed=0, progress=Stop(stop) if stop else None)
        return elastic

    whole = start("whole")
    with pytest.raises(KeyboardInterrupt):
        start("cut", stop=5)
    assert same(whole.state(), start("cut").state())
    states = [load_weights(tmp_path / out / "checkpoint.safetensors") for out in ("whole", "cut")]
    assert same(*({name: t for name, t in state.items() if name.startswith("balance/")} for state in states))
    losses = json.loads((tmp_path / "whole" / "fit.json").read_text())["losses"]
    assert all(np.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("settings", [{"balance": "famo"}, {"balance": "nash"}, {"flat_radius": 0.1}])
def test_fine_tuning_and_its_running_averages(settings: dict[str, object], tmp_path: Path) -> None:
    """One more look at a batch must not count twice in batch-norm's averages."""
    model = toy_net()
    finetune(model, toy_tasks(), ToySplit(8), plain_config(epochs=2, **settings), tmp_path, teacher=None, seed=0)
    steps = {int(m.num_batches_tracked) for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert steps == {4}


def test_trials_of_modes_leave_the_balance_alone(tmp_path: Path) -> None:
    """The mean loss of the first epoch is that of its two batches, and of no trial."""
    config = sandwich_config(balance="dwa", epochs=1, precision="auto", channels_last="never")
    train(toy_elastic(), toy_tasks(), ToySplit(8), config, tmp_path, seed=0)
    stored = load_weights(tmp_path / "checkpoint.safetensors")
    lines = [json.loads(line)["losses"] for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    means = [np.mean([line[name] for line in lines]) for name in ("segmentation", "depth")]
    np.testing.assert_allclose(stored["balance/last_T"], means, rtol=1e-4)
    assert stored["balance/count_T"].tolist() == [0, 0]


def test_a_batch_without_labels_has_a_loss_of_zero() -> None:
    """What the exam of the balances calls a missing label is what the tasks make of one."""
    image, targets = Partly(4).batch(np.array([1, 2]))
    outputs = toy_net()(image)
    losses = {name: float(task.loss(outputs[name], targets[name]).detach()) for name, task in toy_tasks().items()}
    assert losses["depth"] == 0 and losses["segmentation"] > 0
