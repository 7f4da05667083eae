"""Training some of the tasks: the other decoders do not move, and with `own` nothing of the others does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from train_toys import SIZE, ToySplit, sandwich_config, toy_elastic, toy_tasks

from mtnas.base.errors import JobError
from mtnas.data.base import DataInfo
from mtnas.elastic.model import make_elastic
from mtnas.job.schema import Job, TaskConfig
from mtnas.stages.parts import make_elastic_model, make_model
from mtnas.train.config import ModelConfig
from mtnas.train.loop import train
from mtnas.train.own import only_own


@pytest.mark.parametrize("balance", ["fixed", "pcgrad"])
def test_decoders_of_other_tasks_stay(tmp_path: Path, balance: str) -> None:
    elastic = toy_elastic()
    before = elastic.state()
    tasks = {"depth": toy_tasks()["depth"]}
    result = train(elastic, tasks, ToySplit(), sandwich_config(epochs=1, balance=balance), tmp_path, seed=0)
    assert set(result.losses) == {"depth", "total"}
    for name, owners in elastic.parameter_owners.items():
        assert torch.equal(before[name], elastic.state()[name]) == ("depth" not in owners), name


def test_a_task_is_added_without_touching_the_others(tmp_path: Path) -> None:
    elastic = toy_elastic()
    image_BCHW, _ = ToySplit(seed=5).batch(range(6))
    smallest = elastic.selection(elastic.space.smallest)
    elastic.weights_changed()
    before = [elastic.run(image_BCHW, selection) for selection in (None, smallest)]
    tasks = {"depth": toy_tasks()["depth"]}
    with only_own(elastic, tasks):
        train(elastic, tasks, ToySplit(), sandwich_config(epochs=2, lr=1e-2), tmp_path, seed=0)
    after = [elastic.run(image_BCHW, selection) for selection in (None, smallest)]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old["segmentation"], new["segmentation"])
        assert not torch.allclose(old["depth"], new["depth"])
    assert all(parameter.requires_grad for parameter in elastic.model.parameters())


class Joined(nn.Module):
    """Both outputs from one decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 4, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        x = self.head(self.body(image_BCHW).relu())
        return {"segmentation": x[:, :3], "depth": x[:, 3:]}


def test_nothing_of_its_own_is_told() -> None:
    elastic = make_elastic(Joined(), torch.randn(1, 3, 16, 16), prove=False)
    with pytest.raises(JobError, match="serve these tasks alone"), only_own(elastic, ["depth"]):
        pass


def make_three() -> nn.Module:
    """A factory whose network answers more than a job asks."""
    torch.manual_seed(0)

    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
            self.segmentation, self.depth = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 1, 1)
            self.extra = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.Conv2d(16, 2, 1))

        def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
            x = self.body(image_BCHW)
            return {"extra": self.extra(x), "depth": self.depth(x), "segmentation": self.segmentation(x)}

    return Three()


def test_a_job_asks_a_factory_for_some_of_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    model = ModelConfig(factory="test_train_some_tasks:make_three")
    job = Job(tasks=(TaskConfig(name="segmentation"), TaskConfig(name="depth")), model=model)
    info = DataInfo("toy", "1", SIZE, SIZE, (0.5,) * 3, (0.5,) * 3, {}, {}, "a", False)
    network = make_model(job, toy_tasks(), info, 0)
    elastic = make_elastic_model(job, network, info, 8)
    assert elastic.tasks == ("depth", "segmentation")
    assert not [name for name in elastic.state() if name.startswith("extra")]
    image_BCHW = torch.randn(2, 3, SIZE, SIZE)
    expected = make_three().eval()(image_BCHW)
    torch.testing.assert_close(elastic.run(image_BCHW)["depth"], expected["depth"])
