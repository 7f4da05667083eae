"""The moving average of weights: its closed form, what is delivered, and whose batch-norm statistics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from train_toys import ToySplit, plain_config, same, sandwich_config, toy_elastic, toy_net, toy_tasks

from mtnas.train.average import WeightAverage
from mtnas.train.checkpoint import load_weights
from mtnas.train.finetune import finetune
from mtnas.train.fit import AVERAGE_IMAGES
from mtnas.train.loop import train


def tuned(out: Path, **settings: object) -> nn.Module:
    model = toy_net()
    finetune(model, toy_tasks(), ToySplit(), plain_config(**settings), out, teacher=None, seed=0)
    return model


def test_closed_form() -> None:
    """Weights 1, 2, 3 after 0: the decays of the warm-up are 2/11, 3/12, 4/13, until the limit holds."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = WeightAverage(layer, decay=0.26)
    for step in (1, 2, 3):
        nn.init.constant_(layer.weight, step)
        average.update(step)
    expected = 0.0
    for decay, weight in ((2 / 11, 1), (3 / 12, 2), (0.26, 3)):
        expected = decay * expected + (1 - decay) * weight
    assert float(average.tensors["weight"]) == pytest.approx(expected, rel=1e-6)


def test_own_weights_come_back() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, decay=0.5)
    nn.init.constant_(layer.weight, 7.0)
    with average.in_place():
        assert layer.weight.item() != 7.0
    assert layer.weight.item() == 7.0


def test_averages_are_delivered(tmp_path: Path) -> None:
    """They are those of the checkpoint, and not the last weights, which go on as without averaging."""
    model = tuned(tmp_path / "average", ema=0.9)
    plain = tuned(tmp_path / "plain")
    stored = load_weights(tmp_path / "average/checkpoint.safetensors")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[f"average/{name}"])
        assert torch.equal(dict(plain.named_parameters())[name], stored[f"module/{name}"])
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
    delivered = load_weights(tmp_path / "average/weights.safetensors")
    assert same(delivered, model.state_dict())
    assert json.loads((tmp_path / "average/fit.json").read_text())["ema"] == 0.9
    assert json.loads((tmp_path / "plain/fit.json").read_text())["ema"] == 0.0


def test_buffers_are_not_averaged(tmp_path: Path) -> None:
    tuned(tmp_path, ema=0.9)
    averaged = [name for name in load_weights(tmp_path / "checkpoint.safetensors") if name.startswith("average/")]
    assert averaged
    assert not any("running" in name or "num_batches" in name for name in averaged)


def test_statistics_are_those_of_the_averages(tmp_path: Path) -> None:
    """Those of the first norm can be taken by hand: its input depends on one convolution."""
    model = tuned(tmp_path, ema=0.9)
    images, _ = ToySplit().batch(range(24))
    assert len(images) < AVERAGE_IMAGES
    convolution = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    with torch.no_grad():
        x = convolution(images)
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, x.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)


def test_finished_run_is_loaded_not_averaged_again(tmp_path: Path) -> None:
    assert same(tuned(tmp_path, ema=0.9).state_dict(), tuned(tmp_path, ema=0.9).state_dict())


def test_average_of_a_supernet(tmp_path: Path) -> None:
    elastic = toy_elastic()
    result = train(elastic, toy_tasks(), ToySplit(), sandwich_config(ema=0.8), tmp_path, seed=0)
    stored = load_weights(tmp_path / "checkpoint.safetensors")
    assert all(torch.equal(p, stored[f"average/{n}"]) for n, p in elastic.model.named_parameters())
    assert result.ema == 0.8
