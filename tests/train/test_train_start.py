"""Warm start: any checkpoint with the network's names becomes the full network, or the message says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from train_toys import MODEL, SIZE, TARGETS, ToySplit, same, sandwich_config, toy_elastic, toy_net, toy_tasks

from mtnas.base.errors import CheckpointError, JobError
from mtnas.elastic.model import make_elastic
from mtnas.elastic.sort import l1_importance
from mtnas.elastic.task_subset import only_tasks
from mtnas.train.build import build_model
from mtnas.train.loop import train
from mtnas.train.start import read_state, start_from

State = dict[str, Tensor]
WRAPPED: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "data parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "trainer": lambda state: {"epoch": 3, "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    "without counters": lambda state: {n: t for n, t in state.items() if "num_batches" not in n},
    "half": lambda state: {n: t.bfloat16() if t.is_floating_point() else t for n, t in state.items()},
}


def saved(tmp_path: Path, content: object, name: str = "trained.pt") -> Path:
    path = tmp_path / name
    torch.save(content, path)
    return path


def trained_state() -> State:
    return toy_net(seed=7).state_dict()


def outputs(state: State) -> dict[str, Tensor]:
    """What the network with these weights answers in training mode, where no stored statistics matter."""
    network = toy_net()
    network.load_state_dict(state)
    with torch.no_grad():
        return network.train()(ToySplit().images_NCHW[:4])


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_the_full_network_is_the_trained_one(wrapping: str, tmp_path: Path) -> None:
    elastic = toy_elastic()
    told = start_from(elastic, sandwich_config(start=str(saved(tmp_path, WRAPPED[wrapping](trained_state())))))
    with torch.no_grad():
        found = elastic.run(ToySplit().images_NCHW[:4], training=True)
    tolerance = 0.1 if wrapping == "half" else 1e-4
    for task, expected in outputs(trained_state()).items():
        torch.testing.assert_close(found[task], expected, rtol=tolerance, atol=tolerance)
    assert "trained.pt" in told and "keep their initial" not in told


def test_channels_are_sorted_afterwards(tmp_path: Path) -> None:
    elastic = toy_elastic()
    start_from(elastic, sandwich_config(start=str(saved(tmp_path, trained_state()))))
    importance = l1_importance(elastic.groups, elastic.model.state_dict())
    elastic_groups = [group for group in elastic.groups if group.elastic]
    assert elastic_groups and all((np.diff(importance[group.name]) <= 1e-9).all() for group in elastic_groups)


def test_a_safetensors_file_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in trained_state().items()}, path)
    assert same(read_state(path), trained_state())


@pytest.mark.parametrize("prefix", ["encoder.", "", "module.encoder."])
def test_an_encoder_alone_is_taken_when_asked_for(prefix: str, tmp_path: Path) -> None:
    encoder = {f"{prefix}{name}": tensor for name, tensor in toy_net(seed=7).encoder.state_dict().items()}
    path = str(saved(tmp_path, encoder))
    elastic = toy_elastic()
    with pytest.raises(CheckpointError, match="missing"):
        start_from(elastic, sandwich_config(start=path))
    told = start_from(elastic, sandwich_config(start=path, start_partial=True))
    assert "tensors keep their initial values, from heads." in told
    with torch.no_grad():
        maps = elastic.model.train().encoder(ToySplit().images_NCHW[:4])
        expected = toy_net(seed=7).train().encoder(ToySplit().images_NCHW[:4])
    totals = [(float(a.square().sum()), float(b.square().sum())) for a, b in zip(maps, expected, strict=True)]
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in totals)


@pytest.mark.parametrize("whose", ["ours", "a factory's"])
def test_decoders_of_tasks_that_are_left_out_are_not_read(whose: str, tmp_path: Path) -> None:
    """The checkpoint has two tasks, the job one of them."""
    state, image_BCHW = trained_state(), torch.randn(2, 3, SIZE, SIZE)
    alone = {"depth": TARGETS["depth"]}
    network = build_model(MODEL, alone) if whose == "ours" else only_tasks(toy_net(), alone, image_BCHW)
    elastic = make_elastic(network, image_BCHW, round_to=4, prove=False)
    told = start_from(elastic, sandwich_config(start=str(saved(tmp_path, state))))
    assert "tasks that are left out are not read, from heads.segmentation." in told and "keep" not in told
    with torch.no_grad():
        found = elastic.run(ToySplit().images_NCHW[:4], training=True)
    torch.testing.assert_close(found["depth"], outputs(state)["depth"], rtol=1e-4, atol=1e-4)
    stranger = saved(tmp_path, {**state, "encoder.further.weight": torch.zeros(2)}, "other.pt")
    with pytest.raises(CheckpointError, match=r"1 unexpected: encoder\.further"):
        start_from(elastic, sandwich_config(start=str(stranger)))


def test_training_goes_on_from_there_and_statistics_are_estimated_anew(tmp_path: Path) -> None:
    config = sandwich_config(start=str(saved(tmp_path, trained_state())), epochs=0)
    elastic = toy_elastic()
    train(elastic, toy_tasks(), ToySplit(), config, tmp_path / "out", seed=0)
    image = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        found = elastic.run(image)
    other = toy_elastic()
    other.load_state(trained_state())
    with torch.no_grad():
        expected = other.run(image)
    for task, output in expected.items():
        torch.testing.assert_close(found[task], output, rtol=1e-3, atol=1e-4)


def test_another_start_is_another_training(tmp_path: Path) -> None:
    path = saved(tmp_path, trained_state())
    config = sandwich_config(start=str(path), epochs=1)
    first, again = toy_elastic(), toy_elastic(seed=5)
    train(first, toy_tasks(), ToySplit(), config, tmp_path / "out", seed=0)
    train(again, toy_tasks(), ToySplit(), config, tmp_path / "out", seed=0)
    assert same(first.state(), again.state())
    torch.save(toy_net(seed=8).state_dict(), path)
    with pytest.raises(CheckpointError, match="another start"):
        train(toy_elastic(), toy_tasks(), ToySplit(), config, tmp_path / "out", seed=0)


# --- what is not a start ----------------------------------------------------------------------------------------------


def without_last(state: State) -> object:
    return dict(list(state.items())[:-1])


def misspelt(state: State) -> object:
    return {name.replace("encoder.stem", "encoder.stems"): tensor for name, tensor in state.items()}


def wider(state: State) -> object:
    return {
        name: torch.cat([tensor, tensor]) if name == "heads.depth.output.bias" else tensor
        for name, tensor in state.items()
    }


def spoilt(state: State) -> object:
    return {name: tensor / 0 if name == "heads.depth.output.bias" else tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (spoilt, r"1 with NaN or infinity: heads\.depth\.output\.bias.*before the training diverged"),
        (without_last, "1 missing: heads.*start_partial"),
        (misspelt, r"unexpected: encoder\.stems\.0\.0\.weight \(encoder\.stem\.0\.0\.weight\?\)"),
        (wider, r"1 of another shape: heads\.depth\.output\.bias \(2,\) instead of \(1,\)"),
        (lambda state: {"epoch": 3}, "a dict with epoch"),
        (lambda state: {}, "a state dict"),
        (lambda state: [1, 2], "list"),
        (lambda state: toy_net(), "save model.state_dict"),
    ],
)
def test_what_does_not_fit_is_told_by_name(change: Callable[[State], object], match: str, tmp_path: Path) -> None:
    elastic = toy_elastic()
    before = elastic.state()
    with pytest.raises(CheckpointError, match=f"(?s){match}"):
        start_from(elastic, sandwich_config(start=str(saved(tmp_path, change(trained_state())))))
    assert same(before, elastic.state())


def test_a_part_may_lack_tensors_but_not_hold_others(tmp_path: Path) -> None:
    state = {**trained_state(), "classifier.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"1 unexpected: classifier\.weight"):
        start_from(toy_elastic(), sandwich_config(start=str(saved(tmp_path, state)), start_partial=True))


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_a_file_that_is_none_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="a state dict that torch.save wrote"):
        read_state(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state(tmp_path / "nowhere.pt")


def test_a_part_of_nothing_makes_no_sense() -> None:
    with pytest.raises(JobError, match=r"set train\.start"):
        sandwich_config(start_partial=True)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Harmful(nn.Module):
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    with pytest.raises(CheckpointError):
        read_state(saved(tmp_path, {"state_dict": Harmful()}))
    assert not (tmp_path / "touched").exists()
