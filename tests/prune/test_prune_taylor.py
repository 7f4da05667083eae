"""Taylor importance against closed forms, finite differences and masking; tasks that must not starve each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from prune_subject import elastic_of, given, scaled, squares, zoo_elastic
from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.base.groups import ChannelGroup, Selection
from mtnas.elastic.model import ElasticModel, make_elastic
from mtnas.prune.criteria.taylor import task_taylor, taylor
from mtnas.prune.importance import ImportanceInput, importance_of


class Linear(nn.Module):
    """y = b . (A x) on a single pixel, for every task a row of b."""

    def __init__(self, tasks: tuple[str, ...] = ("one",)) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1, bias=False)
        self.heads = nn.ModuleDict({task: nn.Conv2d(8, 1, 1, bias=False) for task in tasks})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {task: head(self.a(image)) for task, head in self.heads.items()}


def linear(tasks: tuple[str, ...] = ("one",)) -> tuple[ElasticModel, Tensor]:
    torch.manual_seed(0)
    return make_elastic(Linear(tasks), torch.zeros(1, 3, 1, 1), round_to=4), torch.randn(5, 3, 1, 1)


def total(outputs: Mapping[str, Tensor], _targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: output.sum() for name, output in outputs.items()}


def test_closed_form_on_one_linear_layer() -> None:
    """The loss is sum_n b.(A x_n): unit u has weight x gradient b_u (A x)_u, summed over images; then squared."""
    elastic, image = linear()
    found = task_taylor(ImportanceInput(elastic, Selection(()), total, lambda: [(image, {})]))["one"]
    assert isinstance(elastic.model, Linear)
    a_83 = elastic.model.a.weight.detach()[:, :, 0, 0].double()
    b_8 = elastic.model.heads["one"].weight.detach()[0, :, 0, 0].double()
    gradient_83 = b_8[:, None] * image[:, :, 0, 0].double().sum(0)
    by_weights_8 = (a_83 * gradient_83).sum(1) ** 2
    np.testing.assert_allclose(found["a"], by_weights_8.numpy(), rtol=1e-5)


def test_batches_are_squared_apart() -> None:
    """Two batches that pull in opposite directions do not cancel."""
    elastic, image = linear()
    once = task_taylor(ImportanceInput(elastic, Selection(()), total, lambda: [(image, {})]))["one"]
    both = task_taylor(ImportanceInput(elastic, Selection(()), total, lambda: [(image, {}), (-image, {})]))["one"]
    np.testing.assert_allclose(both["a"], 2 * once["a"], rtol=1e-6)


@pytest.mark.parametrize(
    "model", ["residual", "unet", "high_resolution", "grouped", "squeeze_excite", "depthwise", "shared"]
)
def test_it_is_the_slope_of_the_loss_when_a_unit_is_masked(model: str) -> None:
    """Scaling what is read of a unit by (1 - e), in float64; norms, sums and concatenations included."""
    elastic = zoo_elastic(model)
    question = given(elastic)
    image, targets = next(iter(question.batches()))
    one_batch = ImportanceInput(elastic, Selection(()), squares, lambda: [(image, targets)])
    found = task_taylor(one_batch)
    elastic.model.double()
    wide = {name: value.double() for name, value in targets.items()}
    for group in [g for g in elastic.groups if g.elastic][::2]:
        units = range(0, group.size, max(1, group.size // 3))
        for unit in units:
            slopes = slope(elastic, group, unit, image.double(), wide)
            for task, value in slopes.items():
                scale = float(np.sqrt(found[task][group.name].max())) or 1.0
                assert abs(value) == pytest.approx(np.sqrt(found[task][group.name][unit]), abs=2e-3 * scale), group.name


def slope(
    elastic: ElasticModel,
    group: ChannelGroup,
    unit: int,
    image: Tensor,
    targets: Mapping[str, Tensor],
    step: float = 1e-5,
) -> dict[str, float]:
    """Central difference of every task's loss in a gate on one unit."""
    found = {}
    for sign in (1.0, -1.0):
        state = {name: parameter.detach().clone() for name, parameter in elastic.model.named_parameters()}
        for member in (m for m in group.members if m.role == "in" and m.name in state):  # tied ones once
            state[member.name].movedim(member.axis, 0)[list(member.positions_UK[unit])] *= 1.0 + sign * step
        with torch.no_grad():
            outputs = torch.func.functional_call(elastic.model, state, (image,))
        found[sign] = squares(outputs, targets)
    return {task: float(found[1.0][task] - found[-1.0][task]) / (2 * step) for task in found[1.0]}


def test_a_thousandfold_loss_changes_nothing() -> None:
    elastic = zoo_elastic("residual")
    plain = taylor(given(elastic))
    for task in elastic.tasks:
        loud = taylor(given(elastic, losses=scaled(task, 1000.0)))
        for name, values_U in plain.items():
            np.testing.assert_allclose(loud[name], values_U, rtol=1e-3, atol=1e-9)


def test_importance_sums_to_the_weights_of_the_tasks() -> None:
    elastic = zoo_elastic("residual")
    question = given(elastic)
    weighted = ImportanceInput(elastic, Selection(()), question.losses, question.batches, {"depth": 5.0})
    assert sum(float(values.sum()) for values in taylor(question).values()) == pytest.approx(3.0)
    assert sum(float(values.sum()) for values in taylor(weighted).values()) == pytest.approx(7.0)


def test_a_head_matters_to_its_own_task_only() -> None:
    elastic = zoo_elastic("residual")
    found = task_taylor(given(elastic))
    for group in (g for g in elastic.groups if g.elastic and len(g.owners) == 1):
        for task, importance in found.items():
            assert bool(importance[group.name].any()) == (task in group.owners), (group.name, task)


def test_a_task_that_nothing_changes_is_left_out() -> None:
    """A loss without a gradient anywhere has importance zero and does not divide by it."""
    elastic = zoo_elastic("residual")

    def half(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        losses = squares(outputs, targets)
        return {**losses, "presence": losses["presence"] * 0.0}

    found = taylor(given(elastic, losses=half))
    assert sum(float(values.sum()) for values in found.values()) == pytest.approx(2.0)


def test_no_batch_is_an_error() -> None:
    elastic = zoo_elastic("plain")
    with pytest.raises(ModelError, match="at least one batch"):
        importance_of("taylor", ImportanceInput(elastic, Selection(()), squares, list))


@pytest.mark.parametrize("model", ["residual", "unet", "grouped"])
def test_a_pruned_network_equals_the_masked_one(model: str) -> None:
    """Any kept units, as pruning leaves them: cutting equals zeroing what is read of the others."""
    elastic = zoo_elastic(model)
    importance = taylor(given(elastic))
    groups = [g for g in elastic.groups if g.elastic]
    kept = {g.name: np.argsort(importance[g.name])[g.size // 4 :] for g in groups}
    selection = Selection.of(kept)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    statistics = sliced_statistics(elastic, selection)
    pruned = elastic.extract(selection, statistics=statistics)
    state = {name: tensor.clone() for name, tensor in elastic.model.state_dict().items()}
    for group in groups:
        gone = sorted(set(range(group.size)) - set(selection.as_dict[group.name]))
        for member in (m for m in group.members if m.role == "in"):
            state[member.name].movedim(member.axis, 0)[[p for u in gone for p in member.positions_UK[u]]] = 0.0
    with torch.no_grad():
        masked = torch.func.functional_call(elastic.model, state, (image,))
        for task, value in pruned(image).items():
            torch.testing.assert_close(value, masked[task], rtol=1e-4, atol=1e-4)


def sliced_statistics(elastic: ElasticModel, selection: Selection) -> dict[str, Tensor]:
    """The full network's statistics of the kept channels."""
    from mtnas.base.groups import axis_slices

    full = elastic.statistics()
    shapes = {name: tuple(tensor.shape) for name, tensor in elastic.model.state_dict().items()}
    slices = axis_slices(elastic.groups, selection, shapes)
    return {n: t[torch.from_numpy(slices[n][0])] if n in slices else t for n, t in full.items()}


def test_the_criterion_sees_the_pruned_network() -> None:
    """Importance of what is gone is zero; it was never part of the loss."""
    elastic = elastic_of(zoo_elastic("residual").model)
    group = next(g for g in elastic.groups if g.elastic)
    found = taylor(given(elastic, Selection.of({group.name: range(8)})))
    assert not found[group.name][8:].any() and found[group.name][:8].all()
