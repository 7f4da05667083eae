"""Verification passes what is right and catches what is not: a flipped weight, another file, a missed floor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import zoo
from onnx import numpy_helper
from onnx_zoo import calibration, exported, images, reference
from torch import Tensor

from mtnas.base.errors import ExitCode, FloorMissed, JobError, ModelError, VerificationFailed
from mtnas.export.manifest import OutputInfo, make_manifest
from mtnas.export.onnx_file import write_onnx
from mtnas.quantize.ptq import quantize_onnx
from mtnas.verify.config import FLOAT_TOLERANCE, INT8_TOLERANCE, VerifyConfig
from mtnas.verify.metrics import Forward, onnx_forward
from mtnas.verify.numerics import compare, require
from mtnas.verify.verify import Primary, Subject, verify

MODEL = "residual"
TASKS = ("segmentation", "depth", "presence")


def altered(change: Callable[[np.ndarray], np.ndarray], index: int = -1) -> onnx.ModelProto:
    """The float network with one stored convolution weight changed."""
    model = onnx.ModelProto()
    model.CopyFrom(exported(MODEL))
    weights = [t for t in model.graph.initializer if len(t.dims) == 4]
    array = numpy_helper.to_array(weights[index]).copy()
    weights[index].CopyFrom(numpy_helper.from_array(change(array), weights[index].name))
    return model


def subject(folder: Path, delivered: onnx.ModelProto | None = None, **changes: object) -> Subject:
    """A folder as the export stage leaves it, and the torch network."""
    float_path = write_onnx(exported(MODEL), folder / "float.onnx")
    path = write_onnx(delivered or exported(MODEL), folder / "model.onnx")
    outputs = [OutputInfo(task, ()) for task in TASKS]
    make_manifest(path, mean=(0,) * 3, std=(1,) * 3, outputs=outputs).save(folder / "manifest.json")
    made = Subject(folder, float_path, zoo.build(MODEL), torch.from_numpy(images(6)))
    return replace(made, **changes)  # type: ignore[arg-type]


def fake_score(forward: Forward) -> dict[str, dict[str, float]]:
    """Mean absolute outputs stand for metrics: they change exactly when the network does."""
    with torch.inference_mode():
        outputs = forward(torch.from_numpy(images(4, seed=9)))
    return {task: {"size": float(value.abs().mean())} for task, value in outputs.items()}


# --- passing --------------------------------------------------------------------------------------------------------


def test_a_faithful_float_file_passes(tmp_path: Path) -> None:
    result = verify(subject(tmp_path), fake_score)
    result.require()
    assert result.passed and result.precision == "float32" and [head.task for head in result.heads] == list(TASKS)
    for head in result.heads:
        assert head.float_error.largest < FLOAT_TOLERANCE / 10 and head.delivered_error.largest == 0.0
        assert head.metrics["onnx"] == head.metrics["delivered"]
        assert head.metrics["torch"]["size"] == pytest.approx(head.metrics["onnx"]["size"], rel=1e-5)


def test_a_faithful_int8_file_passes_with_its_own_tolerance(tmp_path: Path) -> None:
    result = verify(subject(tmp_path, quantize_onnx(exported(MODEL), calibration())), fake_score)
    result.require()
    assert result.precision == "int8"
    for head in result.heads:
        assert head.delivered_error.kind == "rms" and 0.001 < head.delivered_error.rms < INT8_TOLERANCE / 2
        assert head.metrics["delivered"] != head.metrics["onnx"]


def test_the_result_is_json_in_the_agreed_shape(tmp_path: Path) -> None:
    primaries = {"depth": Primary("size", higher_is_better=False, floor=1e9)}
    data = json.loads(json.dumps(verify(subject(tmp_path, primaries=primaries), fake_score).to_json()))
    assert data["schema"] == "verify/1" and data["passed"] is True and data["split"] == "report"
    head = data["heads"][1]
    assert head["task"] == head["output"] == "depth" and head["shape"] == [6, 1, 32, 32] and head["ok"]
    assert head["floor"] == 1e9 and head["tolerance"] == FLOAT_TOLERANCE
    assert set(head["metrics"]) == {"torch", "onnx", "delivered"}
    assert data["heads"][0]["floor"] is None


def test_without_a_score_only_numbers_are_compared(tmp_path: Path) -> None:
    result = verify(subject(tmp_path))
    assert result.passed and result.heads[0].metrics == {}


# --- failing --------------------------------------------------------------------------------------------------------


def flip(array: np.ndarray) -> np.ndarray:
    """The largest weight changes its sign."""
    position = np.unravel_index(np.abs(array).argmax(), array.shape)
    array[position] *= -1
    return array


@pytest.mark.parametrize("index", range(len([t for t in zoo.build(MODEL).state_dict().values() if t.ndim == 4])))
def test_one_flipped_weight_anywhere_is_caught_and_the_head_named(index: int, tmp_path: Path) -> None:
    wrong = write_onnx(altered(flip, index), tmp_path / "float.onnx")
    heads = compare(wrong, reference(MODEL, images(6)), images(6))
    with pytest.raises(VerificationFailed, match=r"(segmentation|depth|presence) within 0\.0001") as caught:
        require(heads, "float file")
    assert caught.value.exit_code == ExitCode.MISSED


def test_a_changed_float_file_fails_and_says_which_head_by_how_much(tmp_path: Path) -> None:
    index = next(
        i
        for i, t in enumerate(t for t in exported(MODEL).graph.initializer if len(t.dims) == 4)
        if t.name.startswith("depth")
    )
    given = subject(tmp_path)
    write_onnx(altered(flip, index), given.float_model)
    result = verify(given)
    assert not result.passed and [head.ok for head in result.heads] == [True, False, True]
    assert "above 0.0001" in result.heads[1].problems[0]
    with pytest.raises(VerificationFailed, match=r"depth within 0\.0001 of the reference(?s:.)*1 of 3 heads"):
        result.require()


def test_bytes_changed_after_export_are_caught(tmp_path: Path) -> None:
    given = subject(tmp_path, quantize_onnx(exported(MODEL), calibration(1)))
    data = bytearray((tmp_path / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 0x40
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(VerificationFailed, match="sha256"):
        verify(given)


def test_an_int8_file_of_another_network_is_caught(tmp_path: Path) -> None:
    foreign = altered(lambda array: np.zeros_like(array), 3)
    result = verify(subject(tmp_path, quantize_onnx(foreign, calibration(1))))
    assert not result.passed
    with pytest.raises(VerificationFailed, match="delivered file against the float file"):
        result.require()


def test_swapped_heads_are_caught(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(exported(MODEL))
    outputs = [model.graph.output[i] for i in (1, 0, 2)]
    swapped = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in outputs]
    del model.graph.output[:]
    model.graph.output.extend(swapped)
    path = write_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(VerificationFailed, match=r"outputs \['segmentation', 'depth', 'presence'\]"):
        compare(path, reference(MODEL, images(2)), images(2))


def test_a_shape_the_manifest_does_not_state_is_caught(tmp_path: Path) -> None:
    given = subject(tmp_path)
    network = zoo.build(MODEL)
    cropped = replace(given, reference=lambda x: {k: v[..., :16] for k, v in network(x).items()})
    with pytest.raises(VerificationFailed, match="manifest"):
        verify(cropped)
    expected = {task: value[..., :3] for task, value in reference(MODEL, images(2)).items()}
    with pytest.raises(VerificationFailed, match="of shape"):
        compare(given.float_model, expected, images(2))


def test_a_missed_floor_is_told_apart_from_a_wrong_file(tmp_path: Path) -> None:
    primaries = {"depth": Primary("size", higher_is_better=False, floor=0.0)}
    result = verify(subject(tmp_path, primaries=primaries), fake_score)
    assert not result.passed
    with pytest.raises(FloorMissed, match="depth: size .* misses its floor 0") as caught:
        result.require()
    assert caught.value.exit_code == ExitCode.MISSED


def test_a_metric_that_differs_on_the_exported_file_fails(tmp_path: Path) -> None:
    values = iter([1.0, 1.02])

    def drifting(forward: Forward) -> dict[str, dict[str, float]]:
        value = next(values)
        return {task: {"size": value} for task in TASKS}

    primaries = {"depth": Primary("size", higher_is_better=True)}
    result = verify(subject(tmp_path, primaries=primaries), drifting)
    with pytest.raises(VerificationFailed, match="depth: size 1 on the float file, 1.02 trained"):
        result.require()


def test_nan_is_never_within_a_tolerance(tmp_path: Path) -> None:
    wrong = write_onnx(altered(lambda array: array * np.nan), tmp_path / "float.onnx")
    heads = compare(wrong, reference(MODEL, images(2)), images(2))
    with pytest.raises(VerificationFailed):
        require(heads, "float file")


@pytest.mark.parametrize(("higher", "value", "kept"), [(True, 0.5, True), (True, 0.4, False), (False, 0.6, False)])
def test_floors_know_the_direction(higher: bool, value: float, kept: bool) -> None:
    assert Primary("m", higher, floor=0.5).kept(value) is kept
    assert Primary("m", higher).kept(value)


def test_tolerances_may_differ_by_task(tmp_path: Path) -> None:
    path = write_onnx(altered(lambda array: array * 1.001, 0), tmp_path / "float.onnx")
    heads = compare(path, reference(MODEL, images(2)), images(2), {"depth": 0.1})
    assert [head.ok for head in heads] == [False, True, False]


# --- the forward function -------------------------------------------------------------------------------------------


def test_onnx_forward_equals_torch_for_any_batch(tmp_path: Path) -> None:
    path = write_onnx(exported(MODEL), tmp_path / "model.onnx")
    model: Callable[[Tensor], dict[str, Tensor]] = zoo.build(MODEL)
    for forward in (onnx_forward(path), onnx_forward(exported(MODEL), threads=2), onnx_forward(path.read_bytes())):
        for count in (1, 3):
            image_BCHW = torch.from_numpy(images(count))
            with torch.no_grad():
                expected = model(image_BCHW)
            outputs = forward(image_BCHW.requires_grad_())
            assert list(outputs) == list(expected)
            for task, value in expected.items():
                torch.testing.assert_close(outputs[task], value, atol=1e-5, rtol=1e-4)


def test_onnx_forward_names_a_file_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        onnx_forward(tmp_path / "gone.onnx")


@pytest.mark.parametrize("bad", [{"images": 0}, {"threads": 0}, {"float_tolerance": 0.0}, {"int8_tolerance": -1.0}])
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(JobError, match=f"verify.{next(iter(bad))}"):
        VerifyConfig(**bad)
