"""Images that lack labels train: a missing label is skipped, nothing becomes NaN, and each task still learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fabricated import build
from train_toys import MODEL, curve, plain_config, sandwich_config

from mtnas.base.errors import PackageMissing
from mtnas.data.base import Dataset
from mtnas.data.config import DataConfig
from mtnas.data.open import open_dataset
from mtnas.elastic.model import make_elastic
from mtnas.job.schema import Job
from mtnas.score.score import score
from mtnas.stages.parts import make_tasks, model_targets
from mtnas.train.balance.table import BALANCES
from mtnas.train.build import build_model
from mtnas.train.finetune import finetune
from mtnas.train.loop import train


@pytest.fixture
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        root = build(request.param, tmp_path / "set", patch)
        data = open_dataset(DataConfig(name=request.param, root=str(root), height=32, width=32))
        data.split("train"), data.split("select")
    return data


@pytest.mark.parametrize("data", ["pets3", "folder", "cifar100-mtl"], indirect=True)
def test_a_sandwich_of_partly_labelled_images(data: Dataset, tmp_path: Path) -> None:
    tasks = make_tasks(Job(), data.info)
    elastic = make_elastic(build_model(MODEL, model_targets(tasks)), torch.randn(2, 3, 32, 32), round_to=8, prove=False)
    split = data.split("train")
    elastic.calibrate_with(lambda: (image for image, _ in split.batches(12)))
    before = {name: value.clone() for name, value in elastic.state().items()}
    train(elastic, tasks, split, sandwich_config(epochs=1, batch_size=4), tmp_path / "run", seed=0)
    after = elastic.state()
    assert all(torch.isfinite(value).all() for value in after.values())
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    for task in tasks:
        assert any(task in name.split(".") for name in changed), task
    losses = curve(tmp_path / "run")
    assert losses and all(math.isfinite(v) for row in losses for v in row.values() if isinstance(v, float))


@pytest.mark.parametrize("data", ["pets3"], indirect=True)
@pytest.mark.parametrize("balance", BALANCES)
def test_every_balance_stands_a_loss_of_zero(data: Dataset, balance: str, tmp_path: Path) -> None:
    """Batches of two of which half hold no head box."""
    tasks = make_tasks(Job(), data.info)
    model = build_model(MODEL, model_targets(tasks))
    config = plain_config(epochs=1, batch_size=2, balance=balance)
    try:
        finetune(model, tasks, data.split("train"), config, tmp_path / "run", teacher=None, seed=0)
    except PackageMissing as error:
        pytest.skip(str(error))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    model.eval()
    scores = score(model, tasks, data.split("select"))
    assert all(math.isfinite(value) for metrics in scores.values() for value in metrics.values())
