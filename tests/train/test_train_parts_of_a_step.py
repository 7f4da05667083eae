"""Steps in parts: small portions of a batch add up to the whole batch, whatever the balance, and resume exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_toys import assert_close, norm_free, sandwiched, tuned
from torch import nn
from train_toys import Stop, ToySplit, plain_config, same, sandwich_config, toy_net, toy_tasks

from mtnas.base.errors import DataError, JobError
from mtnas.base.optional import available
from mtnas.train.balance.table import BALANCES, EXTRAS
from mtnas.train.finetune import finetune


@pytest.mark.parametrize("balance", sorted(BALANCES))
def test_parts_add_up_to_the_whole_batch(tmp_path: Path, balance: str) -> None:
    missing = [package for package in EXTRAS.get(balance, ()) if not available(package)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    whole = tuned(tmp_path / "whole", balance=balance)
    cut = tuned(tmp_path / "parts", balance=balance, accumulate=3)
    assert not same(whole, norm_free().state_dict())
    assert_close(cut, whole)


@pytest.mark.parametrize("settings", [{}, {"balance": "famo"}, {"balance": "mgda"}], ids=["fixed", "famo", "mgda"])
def test_parts_of_the_sandwich_add_up(tmp_path: Path, settings: dict[str, object]) -> None:
    whole = sandwiched(tmp_path / "whole", **settings)
    assert_close(sandwiched(tmp_path / "parts", accumulate=3, **settings), whole)


def test_group_norm_does_not_mind_parts(tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole", norm_free(norm=True))
    assert_close(tuned(tmp_path / "parts", norm_free(norm=True), accumulate=2), whole)


def test_batch_norm_sees_one_part(tmp_path: Path) -> None:
    """The one thing that differs: so the check above can fail."""
    whole = tuned(tmp_path / "whole", toy_net())
    parts = tuned(tmp_path / "parts", toy_net(), accumulate=2)
    assert any(not torch.allclose(whole[name], parts[name], rtol=1e-2, atol=1e-4) for name in whole)


def test_dropout_differs_between_parts(tmp_path: Path) -> None:
    masks: list[torch.Tensor] = []

    class Spy(nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            masks.append(super().forward(torch.ones_like(x)) != 0)
            return x

    model = norm_free()
    model.stem.append(Spy(0.5))
    tuned(tmp_path, model, accumulate=2, epochs=1)
    first, second = masks[-2:]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("stop", [1, 5])
@pytest.mark.parametrize(
    "settings",
    [{"accumulate": 2}, {"ema": 0.9}, {"accumulate": 2, "ema": 0.99, "balance": "famo", "optimizer": "sgd"}],
    ids=["parts", "average", "both"],
)
def test_interrupted_equals_uninterrupted(tmp_path: Path, settings: dict[str, object], stop: int) -> None:
    config = plain_config(checkpoint_seconds=0.0, **settings)
    ends = {}
    for name in ("whole", "cut"):
        arguments = (toy_tasks(), ToySplit(), config, tmp_path / name)
        if name == "cut":
            with pytest.raises(KeyboardInterrupt):
                finetune(toy_net(), *arguments, teacher=None, seed=0, progress=Stop(stop))
        model = toy_net()
        finetune(model, *arguments, teacher=None, seed=0)
        ends[name] = model.state_dict()
    assert same(ends["whole"], ends["cut"])


def test_settings_that_cannot_be() -> None:
    with pytest.raises(JobError, match=r"train\.accumulate.*divisor of batch_size \(6\)"):
        sandwich_config(batch_size=6, accumulate=4)
    with pytest.raises(JobError, match="leaves 2 images"):
        sandwich_config(batch_size=6, accumulate=6)
    with pytest.raises(JobError, match=r"train\.accumulate.*one or more"):
        sandwich_config(accumulate=0)
    with pytest.raises(JobError, match=r"train\.ema.*below 1"):
        sandwich_config(ema=1.0)


def test_a_small_split_makes_parts_too_small(tmp_path: Path) -> None:
    config = plain_config(batch_size=8, accumulate=4)
    with pytest.raises(DataError, match=r"lower finetune\.accumulate"):
        finetune(toy_net(), toy_tasks(), ToySplit(6), config, tmp_path, teacher=None, seed=0)
