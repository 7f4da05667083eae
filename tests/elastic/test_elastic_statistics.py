"""Batch-norm statistics: precise, re-estimated by themselves, never stale."""

from __future__ import annotations

import pytest
import torch
import zoo
from torch import Tensor, nn

from mtnas.base.errors import CheckpointError, StaleStatistics
from mtnas.base.groups import Selection
from mtnas.elastic.model import ElasticModel, make_elastic


class OneLayer(nn.Module):
    """One convolution, one batch-norm, one head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"depth": self.head(torch.relu(self.norm(self.conv(image))))}


def one_layer() -> ElasticModel:
    model = OneLayer()
    zoo.randomise(model)
    return make_elastic(model, zoo.image(), round_to=4)


KEPT = Selection.of({"conv": (1, 4, 5, 11)})


def test_precise_statistics_equal_the_closed_form() -> None:
    """Pooled over batches of different sizes: mean and variance of all values of all images at once."""
    elastic = one_layer()
    batches = [zoo.image(2, seed=1), zoo.image(5, seed=2) * 3.0 + 1.0, zoo.image(1, seed=3)]
    elastic.calibrate_with(lambda: batches)
    found = elastic.statistics(KEPT)
    with torch.no_grad():
        values = elastic.model.conv(torch.cat(batches))[:, [1, 4, 5, 11]].double()
    assert set(found) == {"norm.running_mean", "norm.running_var"}
    torch.testing.assert_close(found["norm.running_mean"].double(), values.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    expected = values.var((0, 2, 3), correction=0)
    torch.testing.assert_close(found["norm.running_var"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_called_twice_pools_both_calls() -> None:
    elastic = make_elastic(zoo.build("shared"), zoo.image(), round_to=4)
    elastic.calibrate_with(lambda: [zoo.image(4, seed=1)])
    elastic.weights_changed()
    inputs: list[Tensor] = []
    handle = elastic.model.tower[1].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    found = elastic.statistics()
    handle.remove()
    flat = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs], 1)
    assert len(inputs) == 2
    torch.testing.assert_close(found["tower.1.running_mean"], flat.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["tower.1.running_var"], flat.var(1, correction=0), rtol=1e-4, atol=1e-5)


def test_without_calibration_images_a_selection_is_stale() -> None:
    elastic = one_layer()
    elastic.run(zoo.image())
    for call in (
        lambda: elastic.run(zoo.image(), KEPT),
        lambda: elastic.extract(KEPT),
        lambda: elastic.statistics(KEPT),
    ):
        with pytest.raises(StaleStatistics, match="calibrate_with"):
            call()


def test_no_calibration_batch_is_an_error() -> None:
    elastic = one_layer()
    elastic.calibrate_with(lambda: [])
    with pytest.raises(StaleStatistics, match="no batch"):
        elastic.statistics(KEPT)


def test_a_network_without_batch_norm_needs_none() -> None:
    elastic = make_elastic(zoo.build("plain"), zoo.image(), round_to=4)
    elastic.weights_changed()
    smallest = elastic.selection(elastic.space.smallest)
    assert elastic.statistics(smallest) == {}
    elastic.run(zoo.image(), smallest)


def test_statistics_are_cached_until_weights_change() -> None:
    elastic, calls = one_layer(), []

    def batches() -> list[Tensor]:
        calls.append(1)
        return [zoo.image(4)]

    elastic.calibrate_with(batches)
    elastic.run(zoo.image(), KEPT)
    elastic.extract(KEPT)
    assert len(calls) == 1
    elastic.weights_changed()
    elastic.run(zoo.image(), KEPT)
    assert len(calls) == 2


def test_a_forgotten_optimizer_step_is_noticed() -> None:
    elastic = one_layer()
    elastic.calibrate_with(lambda: [zoo.image(4)])
    before, full_before = elastic.statistics(KEPT), elastic.statistics()
    optimizer = torch.optim.AdamW(elastic.model.parameters(), lr=0.1)
    elastic.run(zoo.image(), training=True)["depth"].sum().backward()
    optimizer.step()
    assert not torch.allclose(before["norm.running_var"], elastic.statistics(KEPT)["norm.running_var"])
    assert not torch.allclose(full_before["norm.running_var"], elastic.statistics()["norm.running_var"])


def test_full_statistics_are_the_models_own_until_weights_change() -> None:
    elastic = one_layer()
    own = elastic.model.norm.running_var.clone()
    elastic.calibrate_with(lambda: [zoo.image(4)])
    assert torch.equal(elastic.statistics()["norm.running_var"], own)
    elastic.weights_changed()
    renewed = elastic.statistics()["norm.running_var"]
    assert not torch.allclose(renewed, own)
    assert torch.equal(elastic.model.norm.running_var, renewed)
    assert torch.equal(elastic.extract(Selection.of({})).norm.running_var, renewed)


def test_sorting_moves_the_full_statistics_along_and_drops_the_others() -> None:
    elastic = one_layer()
    elastic.calibrate_with(lambda: [zoo.image(4)])
    own, kept = elastic.statistics()["norm.running_var"], elastic.statistics(KEPT)["norm.running_var"]
    elastic.sort_channels({"conv": torch.arange(16).numpy()})
    assert torch.equal(elastic.statistics()["norm.running_var"], own.flip(0))
    assert not torch.allclose(elastic.statistics(KEPT)["norm.running_var"], kept)


def test_statistics_of_another_selection_are_refused() -> None:
    elastic = one_layer()
    elastic.calibrate_with(lambda: [zoo.image(4)])
    others = elastic.statistics(Selection.of({"conv": range(6)}))
    for wrong in (others, {}):
        with pytest.raises(StaleStatistics, match="same selection"):
            elastic.run(zoo.image(), KEPT, statistics=wrong)
        with pytest.raises(StaleStatistics, match="same selection"):
            elastic.extract(KEPT, statistics=wrong)


def test_state_goes_into_another_model_of_the_same_kind() -> None:
    first, second = one_layer(), one_layer()
    with torch.no_grad():
        first.model.conv.weight.mul_(2.0)
    second.load_state(first.state())
    assert torch.equal(second.model.conv.weight, first.model.conv.weight)
    with pytest.raises(StaleStatistics):
        second.run(zoo.image())
    with pytest.raises(CheckpointError, match="settings"):
        second.load_state({name: t[:4] if t.ndim else t for name, t in first.state().items()})
    with pytest.raises(CheckpointError):
        second.load_state({"conv.weight": first.state()["conv.weight"]})


def test_training_runs_under_autocast() -> None:
    elastic = one_layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = elastic.run(zoo.image(4), KEPT, training=True)["depth"]
    output.float().square().mean().backward()
    grad = elastic.model.conv.weight.grad
    assert grad is not None
    assert grad[[1, 4, 5, 11]].any()
    assert not grad[[0, 2, 3, 15]].any()
