"""Single-task references: trained alone, kept, shared, resumed, and refused when damaged."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from train_toys import MODEL, SIZE, Stop, ToySplit, plain_config, same, sandwich_config, toy_net, toy_tasks

from mtnas.base.errors import CheckpointError, JobError, ModelError
from mtnas.data.base import DataInfo, Dataset, TargetInfo
from mtnas.score.config import ReferencesConfig, ScoreConfig
from mtnas.score.delta import delta
from mtnas.score.score import score
from mtnas.train.checkpoint import load_weights
from mtnas.train.config import FitConfig
from mtnas.train.references import NETWORK, RECORD, Recipe, reference, train_references
from mtnas.train.single import train_single

TARGETS = {"segmentation": TargetInfo("segmentation", 3), "depth": TargetInfo("depth", 1)}
SPLITS = ("train", "calibrate", "select", "report")


def toy_data(fingerprint: str = "a") -> Dataset:
    sizes = dict.fromkeys(SPLITS, 24)
    info = DataInfo("toy", "1", SIZE, SIZE, (0.5,) * 3, (0.5,) * 3, TARGETS, sizes, fingerprint, False)
    return Dataset(info, {name: (lambda seed=seed: ToySplit(seed=seed)) for seed, name in enumerate(SPLITS)})


def recipe(**changes: object) -> Recipe:
    config = sandwich_config(epochs=1, checkpoint_seconds=0.0)
    given = Recipe(MODEL, toy_data(), config, 3, ScoreConfig(calibrate_images=12))
    return replace(given, **changes)  # type: ignore[arg-type]


def test_single_network_has_the_same_encoder_and_one_head(tmp_path: Path) -> None:
    model = train_single(MODEL, toy_tasks()["depth"], toy_data(), plain_config(), tmp_path, 3)
    image_BCHW, _ = ToySplit().batch([0, 1])
    whole = toy_net()
    assert tuple(model(image_BCHW)) == ("depth",) and not model.training
    single = {name: tensor.shape for name, tensor in model.state_dict().items()}
    expected = {name: t.shape for name, t in whole.state_dict().items() if not name.startswith("heads.segmentation")}
    assert single == expected


def test_single_network_learns_its_task(tmp_path: Path) -> None:
    task, data = toy_tasks()["depth"], toy_data()
    before, after = (
        score(
            train_single(MODEL, task, data, plain_config(epochs=epochs, lr=1e-2), tmp_path / str(epochs), 0),
            {"depth": task},
            data.split("select"),
        )["depth"]["abs_err"]
        for epochs in (0, 20)
    )
    assert after < 0.6 * before


def test_statistics_are_those_of_the_calibrate_split(tmp_path: Path) -> None:
    """The first batch-norm sees the first convolution's outputs: their mean over all calibration pixels, by hand."""
    data = toy_data()
    model = train_single(MODEL, toy_tasks()["depth"], data, plain_config(), tmp_path, 3, calibrate_images=20)
    convolution = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    name, norm = next((n, layer) for n, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d))
    image_BCHW, _ = data.split("calibrate").batch(range(20))
    with torch.no_grad():
        mean_C = convolution(image_BCHW).mean((0, 2, 3))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, mean_C, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(load_weights(tmp_path / "weights.safetensors")[f"{name}.running_mean"], mean_C)


def test_settings_of_a_supernet_give_the_training_of_a_plain_one(tmp_path: Path) -> None:
    shared = {"lr": 2e-3, "checkpoint_seconds": 5.0}
    configs = {
        "sandwich": sandwich_config(random_widths=3, balance="famo", **shared),
        "plain": FitConfig(epochs=2, batch_size=4, precision="float32", channels_last="never", **shared),
    }
    task = toy_tasks()["depth"]
    first, second = (
        train_single(MODEL, task, toy_data(), config, tmp_path / name, 3).state_dict()
        for name, config in configs.items()
    )
    assert same(first, second)


def test_found_again_and_made_again_when_anything_changes(tmp_path: Path) -> None:
    tasks = toy_tasks()
    first = train_references(recipe(), tasks, tmp_path)
    assert [entry.trained for entry in first.entries] == [True, True]
    again = train_references(recipe(), tasks, tmp_path)
    assert [entry.trained for entry in again.entries] == [False, False]
    assert again.scores("report") == first.scores("report") and again.scores("select") == first.scores("select")
    assert first.scores("report") != first.scores("select")
    idle = recipe(config=sandwich_config(epochs=1, checkpoint_seconds=9.0, random_widths=1))
    assert not reference(idle, tasks["depth"], tmp_path).trained
    alone = toy_data()
    alone.info = replace(alone.info, targets={"depth": TARGETS["depth"]})
    only = train_references(recipe(dataset=alone), {"depth": tasks["depth"]}, tmp_path)  # a job for one of the tasks
    assert [(entry.task, entry.trained) for entry in only.entries] == [("depth", False)]
    changes = (
        {"seed": 4},
        {"config": sandwich_config(epochs=1, lr=1e-4)},
        {"dataset": toy_data("b")},
        {"model": replace(MODEL, head_width=24)},
        {"score": ScoreConfig(calibrate_images=6)},
    )
    for change in changes:
        assert reference(recipe(**change), tasks["depth"], tmp_path).trained, change
    assert len(list(tmp_path.iterdir())) == 2 + len(changes)


def test_scores_are_those_of_the_kept_weights(tmp_path: Path) -> None:
    data, task = toy_data(), toy_tasks()["depth"]
    entry = reference(recipe(), task, tmp_path)
    model = train_single(MODEL, task, data, sandwich_config(epochs=0), tmp_path / "other", 3)
    model.load_state_dict(load_weights(entry.folder / NETWORK))
    for split in ("select", "report"):
        assert score(model, {"depth": task}, data.split(split))["depth"] == entry.scores[split]


def test_interrupted_training_continues(tmp_path: Path) -> None:
    task = toy_tasks()["segmentation"]
    whole = reference(recipe(), task, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        reference(recipe(), task, tmp_path / "cut", Stop(3))
    assert not list((tmp_path / "cut").glob(f"*/{RECORD}"))
    continued = reference(recipe(), task, tmp_path / "cut")
    assert same(load_weights(whole.folder / NETWORK), load_weights(continued.folder / NETWORK))
    assert continued.scores == whole.scores
    assert len((continued.folder / "curves.jsonl").read_text().splitlines()) == 6


def _train_in_a_process(cache: Path, told: multiprocessing.Queue[bool]) -> None:
    torch.set_num_threads(1)
    told.put(reference(recipe(), toy_tasks()["depth"], cache).trained)


def test_two_processes_train_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    processes = [context.Process(target=_train_in_a_process, args=(tmp_path, told)) for _ in range(2)]
    for process in processes:
        process.start()
    results = sorted(told.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert results == [False, True]


@pytest.mark.parametrize("damage", ["torn", "number", "weights", "no weights"])
def test_damaged_entry_is_refused(tmp_path: Path, damage: str) -> None:
    task = toy_tasks()["depth"]
    folder = reference(recipe(), task, tmp_path).folder
    record, weights = folder / RECORD, folder / NETWORK
    if damage == "torn":
        record.write_text(record.read_text()[:50])
    elif damage == "number":
        content = json.loads(record.read_text())
        content["scores"]["report"]["abs_err"] /= 2
        record.write_text(json.dumps(content))
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    else:
        weights.unlink()
    with pytest.raises(CheckpointError, match="delete") as caught:
        reference(recipe(), task, tmp_path)
    assert str(folder) in str(caught.value)


class Own(nn.Module):
    """A user's network of two tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.segmentation, self.depth = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 1, 1)

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        x = self.body(image_BCHW)
        return {"segmentation": self.segmentation(x), "depth": self.depth(x)}


def test_own_network_is_trained_on_one_output(tmp_path: Path) -> None:
    entry = reference(recipe(model=Own), toy_tasks()["depth"], tmp_path)
    trained = load_weights(entry.folder / NETWORK)
    with torch.random.fork_rng():
        start = train_single(Own, toy_tasks()["depth"], toy_data(), plain_config(epochs=0), tmp_path / "none", 3)
    changed = {name for name, tensor in start.named_parameters() if not torch.equal(tensor, trained[name])}
    assert {"body.0.weight", "depth.weight"} <= changed
    assert not {name for name in changed if name.startswith("segmentation")}


def test_own_network_without_the_task_is_refused(tmp_path: Path) -> None:
    class Lacking(Own):
        def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
            return {"segmentation": self.segmentation(self.body(image_BCHW))}

    with pytest.raises(ModelError, match="depth"):
        reference(recipe(model=Lacking), toy_tasks()["depth"], tmp_path)


def test_delta_against_them(tmp_path: Path) -> None:
    found = train_references(recipe(), toy_tasks(), tmp_path)
    own = found.scores("report")
    assert found.delta(own, convention="one_metric") == 0.0
    better = {task: dict(metrics) for task, metrics in own.items()}
    better["depth"]["abs_err"] *= 0.9
    assert found.delta(better, convention="one_metric") == pytest.approx(5.0)
    assert found.delta(better, convention="avg_drop") == pytest.approx(-5.0)
    metrics = {name: task.metrics for name, task in toy_tasks().items()}
    expected = delta(better, found.scores("select"), metrics, convention="flat")
    assert found.delta(better, convention="flat", split="select") == expected


@pytest.mark.parametrize(("wrong", "told"), [({"mode": "trained"}, "train"), ({"epochs": 0}, "at least one epoch")])
def test_wrong_settings(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(JobError, match=told):
        ReferencesConfig(**wrong)  # type: ignore[arg-type]
