"""The exam of every balancing method: rows of the table are found and examined by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mtnas.base.errors import JobError, PackageMissing
from mtnas.base.optional import available
from mtnas.base.tables import lookup
from mtnas.train.balance.base import Balance
from mtnas.train.balance.gradient import GradientBalance
from mtnas.train.balance.make import make_balance
from mtnas.train.balance.needs import check_packages
from mtnas.train.balance.table import BALANCES, EXTRAS, LOOKING_BACK, PER_TASK

#: weights of these are drawn, so that equal tasks are equal on average only
DRAWN = {"rlw", "bandit"}
#: the step goes against no gradient, with any number of tasks
HARMLESS = {"mgda", "upgrad", "nash"}
#: the same with two tasks
HARMLESS_FOR_TWO = {*HARMLESS, "pcgrad", "imtl_g"}
#: the lengths of the gradients do not change the direction
SCALE_FREE = {"nash", "imtl_g"}
#: weights may be negative
SIGNED = {"imtl_g", "aligned"}
#: weights add up to the number of tasks
SUMS = {"dwa", "rlw", "famo", "bandit", "mgda", "imtl_g", "nash", "svd"}
WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.5}


def made(name: str, weights: dict[str, float] | None = None) -> Balance:
    missing = [package for package in EXTRAS.get(name, ()) if not available(package)]
    if missing:
        pytest.skip(f"{missing[0]!r} is not installed")
    return make_balance(name, weights or WEIGHTS)


def solver(name: str) -> Callable[[Tensor], Tensor]:
    """Jacobian (T, N) -> weights (T,) of a gradient method."""
    balance = made(name)
    assert isinstance(balance, GradientBalance)
    return lambda jacobian_TN: balance.combine(jacobian_TN.double() @ jacobian_TN.double().T)


@pytest.fixture(params=sorted(BALANCES))
def name(request: pytest.FixtureRequest) -> str:
    row: str = request.param
    made(row)
    return row


@pytest.fixture(params=PER_TASK)
def rule(request: pytest.FixtureRequest) -> str:
    row: str = request.param
    made(row)
    return row


def losses(*values: float) -> dict[str, Tensor]:
    """Losses by task, in another order than the weights."""
    pairs = list(zip(WEIGHTS, values))
    return {task: torch.tensor(float(value), requires_grad=True) for task, value in reversed(pairs)}


def effective(balance: Balance, *values: float, learn: bool = True) -> np.ndarray:
    """(T,) how much of each loss is in the total."""
    given = losses(*values)
    total = balance.learn(given) if learn else balance.apply_to(given)
    total.backward()
    return np.array([0.0 if given[task].grad is None else float(given[task].grad) for task in balance.tasks])


def story(balance: Balance, steps: range) -> list[np.ndarray]:
    """The weights of some steps of a made-up training, every fourth of which ends an epoch."""
    seen = []
    for step in steps:
        torch.manual_seed(step)
        values = np.random.default_rng(step).uniform(0.1, 3.0, 3)
        seen.append(effective(balance, *values))
        if balance.looks_back:
            balance.look(losses(*(values * np.random.default_rng(step + 99).uniform(0.8, 1.1, 3))))
        if balance.watches:
            balance.watch([torch.randn(40, 30), None, torch.randn(7)])
        if step % 4 == 3:
            balance.end_epoch()
    return seen


# --- every row ------------------------------------------------------------------------------------------------------


def test_the_tables_agree_with_the_classes() -> None:
    for row, place in BALANCES.items():
        method = lookup(row, BALANCES, "balance")
        assert issubclass(method, GradientBalance) == (row in PER_TASK), place
        assert method.looks_back == (row in LOOKING_BACK), place
    assert set(EXTRAS) <= set(BALANCES)


def test_every_row_is_explained() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "balancing.md").read_text(encoding="utf-8")
    assert [row for row in BALANCES if f"| `{row}` |" not in text] == []


def test_starts_at_the_fixed_weights(name: str) -> None:
    np.testing.assert_allclose(effective(made(name), 2.0, 5.0, 1.0, learn=False), [1.0, 3.0, 0.5], rtol=1e-5)


def test_learns_from_the_largest_only(name: str) -> None:
    balance = made(name)
    before = {key: tensor.clone() for key, tensor in balance.state_dict().items()}
    balance.apply_to(losses(2.0, 5.0, 1.0)).backward()
    assert all(parameter.grad is None for parameter in balance.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in balance.state_dict().items())
    balance.learn(losses(2.0, 5.0, 1.0)).backward()
    assert all(parameter.grad is not None for parameter in balance.parameters())


def test_sub_networks_use_the_weights_of_the_largest(name: str) -> None:
    balance = made(name)
    story(balance, range(20))
    learned = effective(balance, 0.7, 1.4, 0.2)
    np.testing.assert_allclose(effective(balance, 3.0, 0.1, 9.0, learn=False), learned, rtol=1e-6)


def test_each_adds_up_to_the_total(name: str) -> None:
    balance = made(name)
    story(balance, range(9))
    given = losses(0.7, 1.4, 0.2)
    each = balance.each(given)
    assert set(each) <= set(balance.tasks)
    assert sum(each.values()).item() == pytest.approx(balance.apply_to(given).item(), rel=1e-6)


@pytest.mark.parametrize("stop", [1, 6, 12])
def test_a_restored_state_continues_exactly(name: str, stop: int) -> None:
    whole = story(made(name), range(20))
    first, second = made(name), made(name)
    story(first, range(stop))
    second.load_state_dict({key: tensor.clone() for key, tensor in first.state_dict().items()})
    np.testing.assert_array_equal(np.array(story(second, range(stop, 20))), np.array(whole[stop:]))


def test_weights_are_finite_and_not_negative_at_any_scale(name: str) -> None:
    balance = made(name)
    rng = np.random.default_rng(0)
    for step in range(30):
        torch.manual_seed(step)
        found = effective(balance, *(10.0 ** rng.uniform(-6, 6, 3)))
        assert np.isfinite(found).all() and (found >= 0).all()
        if name in SUMS:
            assert (found / [1.0, 3.0, 0.5]).sum() == pytest.approx(3.0, rel=1e-4)
        if balance.looks_back:
            balance.look(losses(*(10.0 ** rng.uniform(-6, 6, 3))))
        if balance.watches:
            balance.watch([torch.randn(20)])
        balance.end_epoch()


def test_equal_tasks_weigh_the_same(name: str) -> None:
    balance = made(name, dict.fromkeys("abc", 1.0))
    found = []
    for step in range(600 if name in DRAWN else 12):
        torch.manual_seed(step)
        found.append(effective(balance, 1.5, 1.5, 1.5))
        if balance.looks_back:
            balance.look(losses(1.4, 1.4, 1.4))
        if balance.watches:
            balance.watch([torch.ones(20)])
        if step % 3 == 2:
            balance.end_epoch()
    slack = 0.15 if name in DRAWN else 1e-4
    np.testing.assert_allclose(np.mean(found, axis=0), 1.0, atol=slack)


def test_a_batch_without_labels_of_a_task_teaches_nothing_about_it(name: str) -> None:
    """Its loss is 0 then. Weights stay finite, and what is known of the task stays as it was."""
    balance = made(name)
    story(balance, range(16))
    before = {key: tensor.clone() for key, tensor in balance.state_dict().items()}
    for step in range(8):
        torch.manual_seed(step)
        found = effective(balance, 0.0, 1.0, 2.0)
        assert np.isfinite(found).all() and found[1:].sum() > 0
        if balance.looks_back:
            balance.look(losses(0.0, 0.9, 1.9))
        if balance.watches:
            balance.watch([torch.randn(20)])
    after = balance.state_dict()
    kept = {"sum_T", "count_T", "last_T", "older_T", "loss_T", "latest_TD", "trained_T"}
    for key in kept & before.keys():
        assert torch.equal(after[key][0], before[key][0]), key


def test_a_batch_without_any_label_is_survived(name: str) -> None:
    balance = made(name)
    assert np.isfinite(effective(balance, 0.0, 0.0, 0.0)).all()
    balance.end_epoch()
    assert np.isfinite(effective(balance, 1.0, 2.0, 3.0)).all()


def test_nan_reaches_the_total(name: str) -> None:
    """The engine stops at it, with a cure; the method itself must not fail."""
    balance = made(name, {"a": 1.0})
    assert math.isnan(balance.learn({"a": torch.tensor(math.nan)}).item())


@pytest.mark.parametrize("row", sorted(EXTRAS))
def test_without_its_packages_a_row_says_what_to_install(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.train.balance.needs.available", lambda package: False)
    with pytest.raises(PackageMissing, match=r"mtnas\[balance\]"):
        make_balance(row, WEIGHTS)
    with pytest.raises(PackageMissing, match=f"finetune.balance: {row}"):
        check_packages(row, "finetune.balance")


def test_names_that_are_none() -> None:
    with pytest.raises(JobError, match="did you mean 'fixed'"):
        make_balance("fix", {"a": 1.0})


# --- rows that weigh gradients --------------------------------------------------------------------------------------


def conflicts(tasks: int, count: int = 40) -> list[Tensor]:
    """Jacobians whose rows point against each other, with lengths that differ a hundredfold."""
    generator = torch.Generator().manual_seed(tasks)
    found = []
    while len(found) < count:
        jacobian_TN = torch.randn(tasks, 6, generator=generator, dtype=torch.float64)
        jacobian_TN *= 10 ** (2 * torch.rand(tasks, 1, generator=generator) - 1)
        if (jacobian_TN @ jacobian_TN.T).min() < 0:
            found.append(jacobian_TN)
    return found


def cosines(jacobian_TN: Tensor, weight_T: Tensor) -> np.ndarray:
    step_N = weight_T @ jacobian_TN
    return (jacobian_TN @ step_N / jacobian_TN.norm(dim=1) / step_N.norm()).numpy()


def test_weights_of_gradients_are_finite_and_of_their_sign(rule: str) -> None:
    for jacobian_TN in [*conflicts(2), *conflicts(4)]:
        weight_T = solver(rule)(jacobian_TN).numpy()
        assert np.isfinite(weight_T).all()
        assert rule in SIGNED or (weight_T >= -1e-9).all()
        if rule in SUMS:
            assert weight_T.sum() == pytest.approx(len(weight_T), rel=1e-6)
        if rule in {"pcgrad", "upgrad", "cagrad"}:
            assert (weight_T >= 1 - 1e-6).all()


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_no_task_is_harmed(rule: str, tasks: int) -> None:
    if rule not in (HARMLESS_FOR_TWO if tasks == 2 else HARMLESS):
        pytest.skip("not promised")
    for jacobian_TN in conflicts(tasks):
        assert cosines(jacobian_TN, solver(rule)(jacobian_TN)).min() >= -1e-3


def test_two_valleys_that_pull_apart(rule: str) -> None:
    """(x - 1)^2 / 2 + 20 y^2 and 15 (x + 1)^2 + y^2 / 2 at (0, 0.1): their gradients conflict, and the plain sum would
    raise the first. A small step lowers both where that is promised, and the sum always."""
    curve_TN = torch.tensor([[1.0, 40.0], [30.0, 1.0]], dtype=torch.float64)
    valley_TN = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)

    def values(x_N: Tensor) -> Tensor:
        return (curve_TN * (x_N - valley_TN) ** 2).sum(1) / 2

    x_N = torch.tensor([0.0, 0.1], dtype=torch.float64)
    jacobian_TN = curve_TN * (x_N - valley_TN)
    assert cosines(jacobian_TN, torch.ones(2, dtype=torch.float64)).min() < 0
    change_T = values(x_N - 1e-5 * (solver(rule)(jacobian_TN) @ jacobian_TN)) - values(x_N)
    if rule in HARMLESS_FOR_TWO:
        assert (change_T < 1e-12).all()
    assert change_T.sum() < 0


@pytest.mark.parametrize("rows", [[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1.0, 1, 0]] * 3], ids=["orthogonal", "equal"])
def test_tasks_of_equal_standing_weigh_the_same(rule: str, rows: list[list[float]]) -> None:
    """Orthogonal gradients of one length; equal ones, where only the step tells, since any weights are right."""
    jacobian_TN = torch.tensor(rows, dtype=torch.float64)
    step_N = (solver(rule)(jacobian_TN) @ jacobian_TN).numpy()
    sum_N = jacobian_TN.sum(0).numpy()
    assert step_N @ sum_N / np.linalg.norm(step_N) / np.linalg.norm(sum_N) == pytest.approx(1.0, abs=1e-9)
    if rule not in {"cagrad", "aligned"}:
        np.testing.assert_allclose(step_N, sum_N, rtol=1e-3)


def test_a_common_factor_changes_nothing(rule: str) -> None:
    jacobian_TN = conflicts(3)[0]
    torch.manual_seed(0)
    first_T = solver(rule)(jacobian_TN)
    for factor in (1e-7, 1e7):
        torch.manual_seed(0)
        np.testing.assert_allclose(solver(rule)(factor * jacobian_TN), first_T, rtol=1e-4)


@pytest.mark.parametrize("row", sorted(SCALE_FREE))
def test_lengths_do_not_change_the_direction(row: str) -> None:
    for jacobian_TN in conflicts(3, 10):
        scaled_TN = torch.tensor([[100.0], [1.0], [0.01]]) * jacobian_TN
        first_N, second_N = solver(row)(jacobian_TN) @ jacobian_TN, solver(row)(scaled_TN) @ scaled_TN
        assert torch.cosine_similarity(first_N, second_N, dim=0) > 1 - 1e-5


def test_rows_of_zeros_are_left_out(rule: str) -> None:
    """A task without labels must not stop the others, as it would by its gradient of length zero."""
    jacobian_TN = conflicts(3)[1]
    jacobian_TN[1] = 0
    torch.manual_seed(0)
    weight_T = solver(rule)(jacobian_TN)
    torch.manual_seed(0)
    np.testing.assert_allclose(weight_T[[0, 2]], solver(rule)(jacobian_TN[[0, 2]]), rtol=1e-9)
    assert weight_T[1] == 1
    np.testing.assert_array_equal(solver(rule)(torch.zeros(3, 4)), 1.0)
    np.testing.assert_array_equal(solver(rule)(torch.tensor([[0.0, 0.0], [2.0, 1.0]])), 1.0)


def test_gradients_that_are_not_finite_are_passed_on(rule: str) -> None:
    for bad in (math.nan, math.inf):
        np.testing.assert_array_equal(solver(rule)(torch.tensor([[bad, 1.0], [1.0, 1.0]])), 1.0)


def test_gradients_that_cancel(rule: str) -> None:
    weight_T = solver(rule)(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]))
    assert np.isfinite(weight_T).all()
