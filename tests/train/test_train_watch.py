"""Live scores and TensorBoard: right values, on the select split, and nothing else changes by them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from train_toys import Stop, ToySplit, curve, same, sandwich_config, toy_elastic, toy_tasks

from mtnas.base.errors import JobError, PackageMissing
from mtnas.base.optional import available
from mtnas.elastic.model import ElasticModel
from mtnas.score.score import primary, score
from mtnas.train.board import scalars
from mtnas.train.loop import train
from mtnas.train.watch import Watch, scores_text


def watched(
    out: Path, elastic: ElasticModel, *, epochs: int = 1, stop: int | None = None, **settings: object
) -> ElasticModel:
    watch = Watch(elastic, toy_tasks(), ToySplit(12, seed=1), 8, epochs)
    config = sandwich_config(**{"epochs": 4, "checkpoint_seconds": 0.0, **settings})
    progress = Stop(stop) if stop else None
    train(elastic, toy_tasks(), ToySplit(), config, out, seed=0, progress=progress, watch=watch)
    return elastic


def test_scores_are_those_of_the_networks(tmp_path: Path) -> None:
    """The last look, against the scores of the finished network, taken by the ordinary way."""
    elastic = watched(tmp_path, toy_elastic())
    seen = curve(tmp_path)[-1]["scores"]
    for name, arch in (("largest", elastic.space.largest), ("smallest", elastic.space.smallest)):
        selection = elastic.selection(arch)
        found = score(lambda image, s=selection: elastic.run(image, s), toy_tasks(), ToySplit(12, seed=1), limit=8)
        assert seen[name] == pytest.approx(primary(found, toy_tasks()), rel=1e-5)


def test_one_look_each_time_it_is_due(tmp_path: Path) -> None:
    watched(tmp_path, toy_elastic(), epochs=2)
    looks = [line["epoch"] for line in curve(tmp_path) if "scores" in line]
    assert looks == [2.0, 4.0]
    assert all("losses" in line for line in curve(tmp_path))


def test_watching_changes_no_weight(tmp_path: Path) -> None:
    seen = watched(tmp_path / "seen", toy_elastic())
    unseen = toy_elastic()
    train(unseen, toy_tasks(), ToySplit(), sandwich_config(epochs=4), tmp_path / "unseen", seed=0)
    assert same(seen.state(), unseen.state())


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}], ids=["plain", "average"])
def test_interrupted_equals_uninterrupted(tmp_path: Path, settings: dict[str, object]) -> None:
    whole = watched(tmp_path / "whole", toy_elastic(), **settings)
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path / "cut", toy_elastic(), stop=9, **settings)
    resumed = watched(tmp_path / "cut", toy_elastic(), **settings)
    assert same(whole.state(), resumed.state())
    looks = [[line["scores"] for line in curve(tmp_path / n) if "scores" in line] for n in ("whole", "cut")]
    assert looks[0] == looks[1] and len(looks[0]) == 4


def test_averages_are_watched_where_they_are_delivered(tmp_path: Path) -> None:
    watched(tmp_path / "average", toy_elastic(), ema=0.95)
    watched(tmp_path / "plain", toy_elastic())
    average, plain = (curve(tmp_path / name)[-1] for name in ("average", "plain"))
    assert average["losses"] == plain["losses"] and average["scores"] != plain["scores"]


def test_a_task_without_labels_is_left_out() -> None:
    class Unlabelled(ToySplit):
        def batch(self, indices, augment=None):
            image, targets = super().batch(indices, augment)
            return image, targets | {"depth": torch.zeros_like(targets["depth"])}

    scores = Watch(toy_elastic(), toy_tasks(), Unlabelled(), 8, 1)()
    assert set(scores["largest"]) == set(scores["smallest"]) == {"segmentation"}


def test_text_for_the_bar() -> None:
    assert scores_text({"depth": 0.12345, "edges": 1.0}) == "depth 0.123, edges 1"
    assert scores_text({str(k): 0.5 for k in range(20)}).endswith(" ...")


def test_settings_that_cannot_be() -> None:
    with pytest.raises(JobError, match=r"train\.watch_epochs.*zero \(never\) or more"):
        sandwich_config(watch_epochs=-1)
    with pytest.raises(JobError, match=r"train\.watch_images.*one or more"):
        sandwich_config(watch_images=0)
    with pytest.raises(JobError, match=r"train\.wait_seconds.*positive"):
        sandwich_config(wait_seconds=0.0)


# --- TensorBoard ----------------------------------------------------------------------------------------------------


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(PackageMissing, match=r"mtnas\[tensorboard\]") as caught:
        train(toy_elastic(), toy_tasks(), ToySplit(), sandwich_config(tensorboard=True), tmp_path, seed=0)
    assert "train.tensorboard" in str(caught.value)


def test_scalars_of_a_record() -> None:
    record = {"step": 3, "epoch": 0.5, "lr": 0.1, "norm": 2.0, "seconds": 9.0, "total": 1.5, "losses": {"depth": 1.0}}
    found = scalars(record | {"scores": {"largest": {"depth": 0.7}}})
    assert found == {
        "epoch": 0.5,
        "lr": 0.1,
        "norm": 2.0,
        "loss/total": 1.5,
        "loss/depth": 1.0,
        "score largest/depth": 0.7,
    }


@pytest.mark.skipif(not available("tensorboard"), reason="tensorboard is not installed")
def test_events_tell_what_the_curves_tell(tmp_path: Path) -> None:
    """Also after an interruption, whose steps are dropped."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path, toy_elastic(), stop=9, tensorboard=True)
    watched(tmp_path, toy_elastic(), tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = curve(tmp_path)
    found = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert found == [(line["step"], pytest.approx(line["total"], rel=1e-5)) for line in lines]
    assert len(events.Scalars("score smallest/depth")) == 4
