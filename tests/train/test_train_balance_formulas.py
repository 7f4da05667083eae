"""Balancing methods against the formulas of their papers, on losses and gradients made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mtnas.base.optional import available
from mtnas.train.balance.bandit import EXPLORE, ROUNDS, Bandit, sketch
from mtnas.train.balance.famo import BETA, FIRST, GAMMA, Famo
from mtnas.train.balance.gradient import GradientBalance
from mtnas.train.balance.make import make_balance
from mtnas.train.balance.nash import bargain
from mtnas.train.balance.table import EXTRAS
from mtnas.train.balance.upgrad import project

TWO = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)


def losses(*values: float) -> dict[str, Tensor]:
    return {task: torch.tensor(value, requires_grad=True) for task, value in zip("abcdefgh", values)}


def weights(name: str, jacobian_TN: Tensor) -> np.ndarray:
    for package in EXTRAS.get(name, ()):
        if not available(package):
            pytest.skip(f"{package!r} is not installed")
    balance = make_balance(name, dict.fromkeys(range(len(jacobian_TN)), 1.0))
    assert isinstance(balance, GradientBalance)
    return balance.combine(jacobian_TN @ jacobian_TN.T).numpy()


def spread(tasks: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- losses ---------------------------------------------------------------------------------------------------------


def test_uncertainty_finds_the_noise() -> None:
    """The minimum over s of L exp(-s) / 2 + s / 2 lies at s = log L (Kendall et al., equation 7)."""
    balance = make_balance("uncertainty", {"a": 1.0, "b": 1.0})
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        balance.learn(losses(0.3, 2.0)).backward()
        optimizer.step()
    np.testing.assert_allclose(balance.log_variance().detach(), [math.log(0.3), math.log(2.0)], atol=0.02)


def test_uncertainty_stays_bounded_for_a_loss_near_zero() -> None:
    balance = make_balance("uncertainty", {"a": 1.0})
    optimizer = torch.optim.Adam(balance.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        balance.learn({"a": torch.tensor(1e-30)}).backward()
        optimizer.step()
    assert -4.0 <= balance.log_variance().item() < -3.9


def test_uncertainty_does_not_move_for_a_task_without_labels() -> None:
    """Without this its weight would grow for as long as labels are missing."""
    balance = make_balance("uncertainty", {"a": 1.0, "b": 1.0})
    balance.learn(losses(0.0, 2.0)).backward()
    assert balance.raw_T.grad[0] == 0 and balance.raw_T.grad[1] != 0


def test_dwa_weighs_by_the_rates_of_two_epochs() -> None:
    """Liu et al. 2019: losses 4 -> 1 and 2 -> 2 give w = 2 softmax(r / 2), r = (1/4, 1)."""
    balance = make_balance("dwa", {"a": 1.0, "b": 1.0})
    for pairs in ([(3.0, 2.0), (5.0, 2.0)], [(1.0, 1.0), (1.0, 3.0)]):
        for pair in pairs:
            balance.learn(losses(*pair))
            assert balance.weight_T.tolist() == [1.0, 1.0]
        balance.end_epoch()
    up = np.exp(np.array([0.25, 1.0]) / 2)
    np.testing.assert_allclose(balance.weight_T, 2 * up / up.sum(), rtol=1e-6)


def test_dwa_means_over_labelled_batches_only() -> None:
    balance = make_balance("dwa", {"a": 1.0, "b": 1.0})
    for pair in ((4.0, 0.0), (0.0, 2.0), (2.0, 4.0)):
        balance.learn(losses(*pair))
    balance.end_epoch()
    assert balance.last_T.tolist() == [3.0, 3.0]


def test_rlw_is_a_softmax_of_normal_numbers() -> None:
    balance = make_balance("rlw", dict.fromkeys("abc", 1.0))
    torch.manual_seed(5)
    balance.learn(losses(1.0, 2.0, 3.0))
    torch.manual_seed(5)
    torch.testing.assert_close(balance.weight_T, 3 * torch.softmax(torch.randn(3), 0))


def test_famo_weights_are_z_over_loss() -> None:
    """Liu et al. 2023, algorithm 1: the step is that of sum z log L, so a loss's unit does not matter."""
    balance = make_balance("famo", dict.fromkeys("abc", 1.0))
    balance.xi_T.copy_(torch.tensor([0.5, 0.0, -1.0]))
    given = losses(0.2, 4.0, 30.0)
    balance.learn(given).backward()
    shares = np.array([float(loss.grad * loss.detach()) for loss in given.values()])
    np.testing.assert_allclose(shares / shares.sum(), torch.softmax(balance.xi_T, 0), rtol=1e-5)


def test_famo_follows_the_gradient_of_the_log_losses() -> None:
    """The slope is the softmax's Jacobian times the fall of the log losses, plus the decay (algorithm 1, line 5)."""
    balance = make_balance("famo", dict.fromkeys("abc", 1.0))
    assert isinstance(balance, Famo)
    xi = torch.tensor([0.5, 0.0, -1.0])
    balance.xi_T.copy_(xi)
    balance.learn(losses(2.0, 1.0, 3.0))
    balance.look({task: loss.detach() for task, loss in losses(1.0, 0.9, 3.0).items()})
    xi.requires_grad_(True)
    fell_T = torch.tensor([math.log(2.0), -math.log(0.9), 0.0])
    (slope_T,) = torch.autograd.grad(torch.softmax(xi, 0), xi, fell_T)
    torch.testing.assert_close(balance.first_T, (1 - FIRST) * (slope_T + GAMMA * xi).detach())
    step_T = balance.xi_T - xi.detach()
    torch.testing.assert_close(step_T, -BETA * (slope_T + GAMMA * xi).detach().sign(), rtol=1e-3, atol=0)
    assert step_T[0] < 0 < step_T[2], "the task that fell fastest loses weight"


def test_famo_brings_losses_of_different_speed_to_one_rate() -> None:
    """Two losses of one number each, one a hundred times as steep: their logarithms fall alike."""

    def rates(name: str) -> np.ndarray:
        balance = make_balance(name, {"a": 1.0, "b": 1.0})
        x_T = torch.tensor([1.0, 1.0], requires_grad=True)
        steep_T = torch.tensor([100.0, 1.0])

        def now() -> dict[str, Tensor]:
            values_T = 1 + steep_T * x_T**2
            return {"a": values_T[0], "b": values_T[1]}

        start_T = torch.stack(list(now().values())).detach()
        for _ in range(60):
            (slope_T,) = torch.autograd.grad(balance.learn(now()), x_T)
            with torch.no_grad():
                x_T -= 1e-3 * slope_T
                balance.look({task: loss.detach() for task, loss in now().items()})
        end_T = torch.stack(list(now().values())).detach()
        return (start_T.log() - end_T.log()).numpy()

    fixed, famo = rates("fixed"), rates("famo")
    assert famo[1] / famo[0] > 3 * fixed[1] / fixed[0]


def test_dwa_and_famo_agree_with_the_library() -> None:
    """Twenty steps of made-up losses in torchjd's versions, which share no code with these."""
    if not available("torchjd"):
        pytest.skip("'torchjd' is not installed")
    from torchjd.scalarization import DWA, FAMO

    dwa, famo = (make_balance(name, dict.fromkeys("abc", 1.0)) for name in ("dwa", "famo"))
    their_dwa, their_famo = DWA(), FAMO(3)
    rng = np.random.default_rng(0)
    for step in range(20):
        values = [float(value) for value in rng.uniform(0.1, 3.0, 3)]
        for ours, theirs, factor in ((dwa, their_dwa, 1.0), (famo, their_famo, 3.0)):
            given, vector_T = losses(*values), torch.tensor(values, requires_grad=True)
            ours.learn(given).backward()
            theirs(vector_T).backward()
            found = [float(loss.grad) for loss in given.values()]
            np.testing.assert_allclose(found, factor * vector_T.grad.numpy(), rtol=1e-4)
        after = [float(value) for value in rng.uniform(0.1, 3.0, 3)]
        famo.look({task: loss.detach() for task, loss in losses(*after).items()})
        their_famo.update(torch.tensor(after))
        if step % 4 == 3:
            dwa.end_epoch()
            their_dwa.step()


# --- the bandit -----------------------------------------------------------------------------------------------------


def pull(balance: Bandit, gradient_of: dict[str, Tensor], steps: int, first: int = 0) -> list[str]:
    """Train with given gradients; returns the chosen tasks."""
    chosen = []
    for step in range(first, first + steps):
        torch.manual_seed(step)
        (task,) = balance_step(balance)
        balance.watch([gradient_of[task]])
        chosen.append(task)
    return chosen


def balance_step(balance: Bandit) -> list[str]:
    given = {task: torch.tensor(1.0, requires_grad=True) for task in balance.tasks}
    balance.learn(given).backward()
    return [task for task, loss in given.items() if loss.grad is not None]


def test_bandit_takes_turns_first_and_trains_one_task_as_often_as_there_are_tasks() -> None:
    balance = Bandit({"a": 2.0, "b": 1.0, "c": 1.0})
    gradients = {task: torch.randn(50) for task in balance.tasks}
    assert pull(balance, gradients, 3 * ROUNDS) == ["a", "b", "c"] * ROUNDS
    given = losses(1.0, 1.0, 1.0)
    balance.chosen.fill_(0)
    balance.apply_to(given).backward()
    assert given["a"].grad == 6.0 and given["b"].grad is None and given["c"].grad is None


def test_bandit_prefers_the_task_that_helps_the_others() -> None:
    """a and b share a direction, c points against both."""
    balance = Bandit(dict.fromkeys("abc", 1.0))
    along = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    chosen = pull(balance, {"a": along, "b": 2 * along, "c": -along}, 1500)[-700:]
    counts = {task: chosen.count(task) for task in "abc"}
    assert counts["a"] + counts["b"] > 2.3 * counts["c"]
    assert min(counts.values()) > 700 * EXPLORE / 3 * 0.6, "every task is explored"


def test_bandit_chooses_among_labelled_tasks() -> None:
    balance = Bandit(dict.fromkeys("abc", 1.0))
    for step in range(60):
        torch.manual_seed(step)
        balance.learn(losses(0.0, 1.0, 1.0))
        assert int(balance.chosen) != 0


def test_a_window_is_rewarded_by_exp3() -> None:
    """Log weights grow by gamma r / (p K), r the sigmoid of the mean influence; then they are shifted to a top of 0."""
    balance = Bandit({"a": 1.0, "b": 1.0})
    along = torch.randn(3000, generator=torch.Generator().manual_seed(2))
    pull(balance, {"a": along, "b": -along}, 2)
    # a was trained first, when nothing was known of b: cosine 1 with itself, 0 with b; b has 1 and -1
    reward_T = torch.sigmoid(torch.tensor([1.0, 0.0]) / 2)
    grown_T = EXPLORE * reward_T / (0.5 * 2)
    torch.testing.assert_close(balance.log_T, grown_T - grown_T.max(), rtol=1e-4, atol=1e-5)


def test_sketches_keep_cosines() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(20000, generator=generator), torch.randn(20000, generator=generator)
    like = torch.zeros(1, 512)
    for other, cosine in ((x, 1.0), (-x, -1.0), (y, 0.0), ((x + y) / 2, math.sqrt(0.5))):
        first_D, second_D = (sketch([g[:900].reshape(30, 30), None, g[900:]], like) for g in (x, other))
        assert float(torch.cosine_similarity(first_D, second_D, dim=0)) == pytest.approx(cosine, abs=0.12)


# --- gradients ------------------------------------------------------------------------------------------------------


def test_pcgrad_of_two_tasks() -> None:
    """Yu et al. 2020, algorithm 1: (1, 0) becomes (1/2, 1/2), (-1, 1) becomes (0, 1)."""
    np.testing.assert_allclose(weights("pcgrad", TWO) @ TWO.numpy(), [0.5, 1.5], atol=1e-12)


def test_upgrad_of_two_tasks_is_pcgrad() -> None:
    np.testing.assert_allclose(weights("upgrad", TWO) @ TWO.numpy(), [0.5, 1.5], atol=1e-9)


def test_projection_on_the_dual_cone_solves_its_program() -> None:
    """min v^T G v with v >= u (Quinton and Rey, proposition 1): v >= u, G v >= 0, and one of the two is tight."""
    for seed in range(20):
        jacobian_TN = spread(4, seed)
        gram_TT = jacobian_TN @ jacobian_TN.T
        for u_T, v_T in zip(torch.eye(4), project(torch.eye(4, dtype=torch.float64), gram_TT)):
            along_T = gram_TT @ v_T
            assert (v_T >= u_T - 1e-9).all() and (along_T >= -1e-8).all()
            assert float(((v_T - u_T) * along_T).abs().max()) < 1e-8


def test_mgda_of_two_tasks() -> None:
    """Sener and Koltun, two tasks: the first weight is (g2 - g1) g2 / |g2 - g1|^2 = 3/5; twice that here."""
    np.testing.assert_allclose(weights("mgda", TWO), [6 / 5, 4 / 5], rtol=1e-9)
    inside = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(weights("mgda", inside), [2, 0], atol=1e-9)


def test_imtl_g_projects_equally() -> None:
    """Liu et al. 2021, IMTL-G: the step has the same inner product with all unit gradients."""
    jacobian_TN = spread(4)
    step_N = weights("imtl_g", jacobian_TN) @ jacobian_TN.numpy()
    along_T = (jacobian_TN / jacobian_TN.norm(dim=1, keepdim=True)).numpy() @ step_N
    np.testing.assert_allclose(along_T, along_T[0], rtol=1e-9)


def test_nash_solves_the_bargaining_equation() -> None:
    """Navon et al. 2022, claim 3.1: G a = 1 / a."""
    for seed in range(10):
        jacobian_TN = spread(4, seed)
        gram_TT = jacobian_TN @ jacobian_TN.T
        a_T = bargain(gram_TT)
        torch.testing.assert_close(gram_TT @ a_T, 1 / a_T)
        found = weights("nash", jacobian_TN)
        np.testing.assert_allclose(found, 4 * a_T / a_T.sum(), rtol=1e-4)


def test_nash_of_two_tasks_is_the_bisector() -> None:
    found = weights("nash", TWO)
    assert found[0] * 1.0 == pytest.approx(found[1] * math.sqrt(2.0), rel=1e-9)


def test_nash_agrees_with_the_library() -> None:
    if not (available("torchjd") and available("ecos") and available("cvxpy")):
        pytest.skip("torchjd[nash_mtl] is not installed")
    from torchjd.aggregation import NashMTL

    jacobian_TN = spread(3)
    theirs_N = NashMTL(3, max_norm=0.0, optim_niter=100)(jacobian_TN.float()).double().numpy()
    ours_N = weights("nash", jacobian_TN) @ jacobian_TN.numpy()
    cosine = theirs_N @ ours_N / np.linalg.norm(theirs_N) / np.linalg.norm(ours_N)
    assert cosine > 0.999


def test_aligned_components_are_orthogonal_and_as_long_as_the_weakest() -> None:
    """Senushkin et al. 2023, algorithm 1: with B = sigma_min V Lambda^(-1/2) V^T, the Gramian of B J is
    lambda_min times one, and the weights are the row sums of B."""
    jacobian_TN = spread(3)
    values_T, vectors_TT = np.linalg.eigh((jacobian_TN @ jacobian_TN.T).numpy())
    B_TT = math.sqrt(values_T[0]) * vectors_TT @ np.diag(values_T**-0.5) @ vectors_TT.T
    np.testing.assert_allclose(weights("aligned", jacobian_TN), B_TT.sum(1), rtol=1e-6)


def test_cagrad_is_the_best_of_the_ball() -> None:
    """Liu et al. 2021, CAGrad: within c |g0| of the mean g0, the step whose smallest gain is largest."""
    jacobian_TN = spread(3, 4).numpy()
    step_N = weights("cagrad", torch.from_numpy(jacobian_TN)) @ jacobian_TN / 3
    mean_N = jacobian_TN.mean(0)
    radius = 0.4 * np.linalg.norm(mean_N)
    assert np.linalg.norm(step_N - mean_N) == pytest.approx(radius, rel=1e-4)
    best = (jacobian_TN @ step_N).min()
    rng = np.random.default_rng(0)
    away_KN = rng.standard_normal((20000, jacobian_TN.shape[1]))
    others_KN = mean_N + radius * away_KN / np.linalg.norm(away_KN, axis=1, keepdims=True)
    assert (others_KN @ jacobian_TN.T).min(1).max() <= best + 1e-4


def test_svd_weights_are_the_energies_in_the_common_directions() -> None:
    """Wu et al. 2020. Two tasks at a cosine of 0.6 and one apart: one direction in common, (1, 1, 0)."""
    jacobian_TN = torch.tensor([[5.0, 0, 0], [0.6, 0.8, 0], [0, 0, 2]], dtype=torch.float64)
    np.testing.assert_allclose(weights("svd", jacobian_TN), [1.5, 1.5, 0], atol=1e-6)
    jacobian_TN = spread(4)
    unit_TN = (jacobian_TN / jacobian_TN.norm(dim=1, keepdim=True)).numpy()
    U_NT, D_T, _ = np.linalg.svd(unit_TN.T, full_matrices=False)
    energy_T = np.linalg.norm(unit_TN @ U_NT[:, D_T**2 > 1], axis=1)
    np.testing.assert_allclose(weights("svd", jacobian_TN), 4 * energy_T / energy_T.sum(), rtol=1e-6)
