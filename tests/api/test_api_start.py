"""`mtnas.train(start=...)` and what is seen while it trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from api_subject import TASKS, TRAIN, example, user_data, user_model
from torch import Tensor, nn

import mtnas
from mtnas.base.errors import CheckpointError
from mtnas.base.journal import Journal
from mtnas.elastic.model import ElasticModel
from mtnas.elastic.sort import l1_importance

DATA = user_data()
NONE = replace(TRAIN, epochs=0)


def elastic_model() -> ElasticModel:
    return mtnas.make_elastic(user_model(), example(), prove=False)


def trained_network(seed: int) -> nn.Module:
    """Other weights than those of `user_model`."""
    network = user_model()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return network


def saved(folder: Path, seed: int = 5, name: str = "trained.pt") -> Path:
    torch.save(trained_network(seed).state_dict(), folder / name)
    return folder / name


def answers(network: nn.Module) -> dict[str, Tensor]:
    """By statistics of the batch."""
    with torch.no_grad():
        return network.train()(DATA.split("select").batch(np.arange(4))[0])


def test_the_full_network_is_the_one_in_the_file(tmp_path: Path) -> None:
    elastic = elastic_model()
    mtnas.train(elastic, TASKS, DATA, config=NONE, start=saved(tmp_path))
    for task, expected in answers(trained_network(5)).items():
        torch.testing.assert_close(answers(elastic.model)[task], expected, rtol=1e-3, atol=1e-4)
    importance = l1_importance(elastic.groups, elastic.state())
    assert all(np.diff(importance[group.name]).max() <= 1e-6 for group in elastic.groups if group.elastic)


def test_it_comes_before_the_start_of_the_settings(tmp_path: Path) -> None:
    elastic, config = elastic_model(), replace(NONE, start=str(tmp_path / "none.pt"))
    mtnas.train(elastic, TASKS, DATA, config=config, start=str(saved(tmp_path)))
    with pytest.raises(CheckpointError, match=r"train\.start: .*none\.pt"):
        mtnas.train(elastic_model(), TASKS, DATA, config=config)


def test_another_network_is_told(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="2 unexpected: weight"):
        mtnas.train(elastic_model(), TASKS, DATA, config=NONE, start=tmp_path / "other.pt")


def test_a_folder_belongs_to_the_content_of_the_file(tmp_path: Path) -> None:
    """The same call is done at once; another content under the same name is another training."""
    path, out = saved(tmp_path), tmp_path / "out"
    first, second, third = elastic_model(), elastic_model(), elastic_model()
    result = mtnas.train(first, TASKS, DATA, config=NONE, start=path, out=out)
    again = replace(NONE, watch_epochs=0, checkpoint_seconds=1.0)  # settings that change no weight
    assert mtnas.train(second, TASKS, DATA, config=again, start=path, out=out) == result
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in first.state().items())
    saved(tmp_path, seed=6)
    other = mtnas.train(third, TASKS, DATA, config=NONE, start=path, out=out)
    assert other.weights_hash != result.weights_hash
    for task, expected in answers(trained_network(6)).items():
        torch.testing.assert_close(answers(third.model)[task], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("epochs", [0, 1])
def test_scores_while_it_trains(tmp_path: Path, epochs: int) -> None:
    """Every `watch_epochs`; 0 is never."""
    config = replace(TRAIN, watch_epochs=epochs, watch_images=8)
    mtnas.train(elastic_model(), TASKS, DATA, config=config, out=tmp_path)
    seen = [line["scores"] for line in Journal(tmp_path / "2-train/curves.jsonl").records() if "scores" in line]
    assert [sorted(scores) for scores in seen] == [["largest", "smallest"]] * epochs
    assert all(set(scores["largest"]) <= set(TASKS) for scores in seen)
