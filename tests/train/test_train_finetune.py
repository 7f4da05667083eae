"""Fine-tuning and the engine below it: it learns, resumes to the bit, refuses what is foreign or broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from train_toys import (
    Stop,
    ToySplit,
    curve,
    plain_config,
    same,
    toy_net,
    toy_tasks,
)

from mtnas.base.errors import CheckpointError, DataError, ModelError, StorageError, TrainingDiverged
from mtnas.base.machine import usable_cores
from mtnas.train.checkpoint import load_weights
from mtnas.train.finetune import finetune
from mtnas.train.result import FitResult
from mtnas.train.trials import Trials


def run(out: Path, seed: int = 0, model: nn.Module | None = None, teacher: nn.Module | None = None, **settings: object):
    model = toy_net() if model is None else model
    result = finetune(model, toy_tasks(), ToySplit(), plain_config(**settings), out, teacher=teacher, seed=seed)
    return model.state_dict(), result


def test_learns(tmp_path: Path) -> None:
    _, result = run(tmp_path, epochs=20, lr=3e-3)
    first, last = curve(tmp_path)[0], curve(tmp_path)[-1]
    assert last["total"] < 0.6 * first["total"]
    assert set(last["losses"]) == {"segmentation", "depth"}
    assert result.losses["total"] == last["total"]
    assert result.steps == 20 * 6 and result.images == 480


def test_result_and_files(tmp_path: Path) -> None:
    state, result = run(tmp_path)
    assert same(load_weights(tmp_path / "weights.safetensors"), state)
    assert FitResult.from_json(json.loads((tmp_path / "fit.json").read_text())) == result
    assert result.mode == "float32, contiguous" and result.trials == {}


def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path) -> None:
    first, again, other = (run(tmp_path / name, seed)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(first, again)
    assert not same(first, other)


def test_global_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_no_epochs_changes_nothing(tmp_path: Path) -> None:
    state, result = run(tmp_path, epochs=0)
    assert same(state, toy_net().state_dict())
    assert result.steps == 0 and result.losses == {}


def test_finished_run_is_loaded_not_repeated(tmp_path: Path) -> None:
    state, _ = run(tmp_path)
    lines = curve(tmp_path)
    again, _ = run(tmp_path)
    assert same(state, again)
    assert curve(tmp_path) == lines


def test_model_is_left_in_evaluation_mode_and_contiguous(tmp_path: Path) -> None:
    model = toy_net()
    run(tmp_path, model=model, epochs=1, channels_last="always")
    assert not model.training
    assert all(parameter.is_contiguous() for parameter in model.parameters())


# --- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bfloat16", "channels_last": "always"},
        {"optimizer": "sgd", "lr": 0.05},
        {"balance": "uncertainty"},
        {"clip_norm": 0.0, "checkpoint_seconds": 1e9},
    ],
    ids=["adamw", "bfloat16", "sgd", "uncertainty", "epoch-checkpoints"],
)
@pytest.mark.parametrize("stop", [1, 6, 11])
def test_interrupted_equals_uninterrupted(tmp_path: Path, settings: dict[str, object], stop: int) -> None:
    settings = {"checkpoint_seconds": 0.0, **settings}
    whole, _ = run(tmp_path / "whole", teacher=toy_net(1), **settings)
    arguments = (toy_tasks(), ToySplit(), plain_config(**settings), tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        finetune(toy_net(), *arguments, teacher=toy_net(1), seed=0, progress=Stop(stop))
    resumed, _ = run(tmp_path / "cut", teacher=toy_net(1), **settings)
    assert same(whole, resumed)
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in curve(tmp_path / n)] for n in ("whole", "cut")]
    assert timeless[0] == timeless[1]


def test_dropout_resumes_to_the_bit(tmp_path: Path) -> None:
    def net() -> nn.Module:
        model = toy_net()
        model.encoder.stem.append(nn.Dropout(0.3))
        return model

    config, data = plain_config(checkpoint_seconds=0.0), ToySplit()
    with pytest.raises(KeyboardInterrupt):
        finetune(net(), toy_tasks(), data, config, tmp_path / "cut", teacher=None, seed=0, progress=Stop(4))
    resumed, _ = run(tmp_path / "cut", model=net(), checkpoint_seconds=0.0)
    whole, _ = run(tmp_path / "whole", model=net(), checkpoint_seconds=0.0)
    assert same(whole, resumed)


# --- trials ---------------------------------------------------------------------------------------------------------


def test_trials_are_recorded_and_leave_no_trace(tmp_path: Path) -> None:
    model = toy_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, result = run(tmp_path, model=model, epochs=1, precision="auto", channels_last="auto")
    assert set(result.trials) == {
        "float32, contiguous, 1 thread(s)",
        "float32, channels_last, 1 thread(s)",
        "bfloat16, contiguous, 1 thread(s)",
        "bfloat16, channels_last, 1 thread(s)",
    }
    assert f"{result.mode}, {result.threads} thread(s)" in result.trials
    start = load_start(tmp_path, before)
    assert same(start, before)


def load_start(folder: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the checkpoint written after the trials, before the first step."""
    out = folder / "start"
    with pytest.raises(KeyboardInterrupt):
        finetune(
            toy_net(),
            toy_tasks(),
            ToySplit(),
            plain_config(precision="auto", channels_last="auto", checkpoint_seconds=1e9),
            out,
            teacher=None,
            seed=0,
            progress=Stop(1),
        )
    stored = load_weights(out / "checkpoint.safetensors")
    return {name: stored[f"module/{name}"] for name in like}


def test_thread_counts_are_tried_and_put_back(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        _, result = run(tmp_path, epochs=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    turn = "" if usable_cores() > 2 else ", batches in turn"
    assert set(result.trials) == {"float32, contiguous, 1 thread(s)", f"float32, contiguous, 2 thread(s){turn}"}
    assert result.threads in (1, 2)


def test_mode_of_a_checkpoint_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resumed run must not try again: the other mode might win this time."""
    settings = {"precision": "auto", "channels_last": "auto", "checkpoint_seconds": 0.0}
    config = plain_config(**settings)
    with pytest.raises(KeyboardInterrupt):
        finetune(toy_net(), toy_tasks(), ToySplit(), config, tmp_path, teacher=None, seed=0, progress=Stop(3))

    def forbidden(self: Trials, *_: object) -> float:
        raise AssertionError("tried again")

    monkeypatch.setattr(Trials, "seconds", forbidden)
    _, result = run(tmp_path, **settings)
    assert len(result.trials) == 4


# --- what is refused ------------------------------------------------------------------------------------------------


def test_nan_stops_before_the_weights_are_spoilt(tmp_path: Path) -> None:
    split, config = ToySplit(bad=frozenset({7})), plain_config(epochs=3, augment=False, checkpoint_seconds=0.0)
    with pytest.raises(TrainingDiverged, match=r"lower finetune\.lr") as caught:
        finetune(toy_net(), toy_tasks(), split, config, tmp_path, teacher=None, seed=0)
    assert "depth" in caught.value.received
    stored = load_weights(tmp_path / "checkpoint.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


def test_exploding_rate_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="NaN or infinity"):
        run(tmp_path, epochs=30, optimizer="sgd", lr=1e30, clip_norm=0.0)


@pytest.mark.parametrize("damage", ["truncate", "flip", "header", "empty"])
def test_damaged_checkpoint(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    if damage == "header":
        data = data.replace(b"checkpoint/1", b"checkpoint/9")
    path.write_bytes({"truncate": data[: len(data) // 2], "empty": b""}.get(damage, bytes(data)))
    with pytest.raises(CheckpointError, match="delete this file"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"lr": 1e-4}, "settings"),
        ({"seed": 5}, "seed"),
        ({"model": toy_net(9)}, "start"),
        ({"teacher": toy_net(1)}, "teacher"),
    ],
)
def test_foreign_checkpoint(tmp_path: Path, change: dict[str, object], what: str) -> None:
    run(tmp_path)
    with pytest.raises(CheckpointError, match=f"another {what}"):
        run(tmp_path, **change)


def test_other_data_is_foreign(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(CheckpointError, match="another data"):
        finetune(toy_net(), toy_tasks(), ToySplit(seed=1), plain_config(), tmp_path, teacher=None, seed=0)


def test_checkpoint_interval_may_change(tmp_path: Path) -> None:
    state, _ = run(tmp_path, checkpoint_seconds=60.0)
    again, _ = run(tmp_path, checkpoint_seconds=10.0)
    assert same(state, again)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two images"):
        finetune(toy_net(), toy_tasks(), ToySplit(1), plain_config(), tmp_path, teacher=None, seed=0)


def test_missing_output_is_named(tmp_path: Path) -> None:
    model = toy_net()
    del model.heads["depth"]
    with pytest.raises(ModelError, match="task depth"):
        run(tmp_path, model=model)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="--out"):
        run(tmp_path / "file")


def test_teacher_pulls_the_student(tmp_path: Path) -> None:
    """With the teacher's share at one, the student comes closer to the teacher than one trained on labels."""
    teacher = toy_net(1).eval()
    image, _ = ToySplit().batch(np.arange(24))
    distances = []
    for weight in (1.0, 0.0):
        model = toy_net()
        run(tmp_path / str(weight), model=model, teacher=teacher, epochs=15, distill_weight=weight, lr=3e-3)
        with torch.no_grad():
            distances.append(float((model(image)["depth"] - teacher(image)["depth"]).abs().mean()))
    assert distances[0] < 0.7 * distances[1]
