"""The exam of every row of the runtimes table; one whose library or hardware is missing is skipped with the reason."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from runtime_subjects import (
    SLOW_TO_OPEN,
    affine_model,
    heavy_model,
    open_row,
    quantized_two_heads,
    stack_model,
    two_heads,
)

from mtnas.base.errors import DeviceMissing, JobError, ModelError, PackageMissing
from mtnas.base.tables import lookup
from mtnas.device.networks import NETWORKS
from mtnas.measure.runtimes.base import RuntimeOptions, Session
from mtnas.measure.runtimes.table import RUNTIMES

ROWS = sorted(RUNTIMES)
QUICK_ROWS = sorted(set(RUNTIMES) - SLOW_TO_OPEN)


@pytest.fixture(scope="module", params=ROWS)
def shared(request: pytest.FixtureRequest) -> Iterator[Session]:
    """One open session for all questions that leave it open."""
    with open_row(request.param, affine_model(), threads=1) as opened:
        yield opened


@pytest.fixture
def session(shared: Session) -> Session:
    return shared


IMAGE = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 4.0]], dtype=np.float32)


def test_computes_every_named_output(session: Session) -> None:
    outputs = session.run({"image": IMAGE})
    assert sorted(outputs) == ["affine", "total"] == sorted(session.outputs)
    np.testing.assert_allclose(outputs["affine"], 2 * IMAGE + 1, rtol=1e-6)
    np.testing.assert_allclose(outputs["total"], IMAGE.sum(1, keepdims=True), rtol=1e-6)


def test_outputs_of_one_run_survive_the_next(session: Session) -> None:
    first = session.run({"image": IMAGE})
    kept = {name: value.copy() for name, value in first.items()}
    session.run({"image": 10 * IMAGE})
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_describes_itself(session: Session) -> None:
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.inputs] == [("image", "float32", (2, 3))]
    assert session.runtime in RUNTIMES and session.version[0].isdigit()
    assert "precision" in session.options and 1 in session.options.values()


def test_a_bound_call_runs(session: Session) -> None:
    call = session.bind({"image": IMAGE})
    call()
    call()
    np.testing.assert_allclose(session.run({"image": IMAGE})["affine"], 2 * IMAGE + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ({"image": IMAGE[:1]}, "(1, 3)"),
        ({"image": IMAGE[0]}, "(3)"),
        ({"image": IMAGE.astype(np.float64)}, "float64"),
        ({"picture": IMAGE}, "picture"),
        ({}, "[]"),
    ],
)
def test_refuses_wrong_inputs_with_what_came(session: Session, inputs: dict[str, np.ndarray], part: str) -> None:
    for act in (session.run, session.bind):
        with pytest.raises(ModelError) as caught:
            act(inputs)
        assert part in str(caught.value) and "image" in str(caught.value)


@pytest.mark.parametrize("name", ROWS)
def test_closed_session_is_refused_and_closing_twice_is_not(name: str) -> None:
    session = open_row(name, affine_model())
    session.close()
    session.close()
    for act in (session.run, session.layers):
        with pytest.raises(ModelError, match="closed"):
            act({"image": IMAGE})


@pytest.mark.parametrize("name", ROWS)
def test_free_batch_is_accepted(name: str) -> None:
    with open_row(name, affine_model("batch")) as opened:
        assert opened.inputs[0].shape == (None, 3)
        for batch in (1, 5):
            assert opened.run({"image": np.ones((batch, 3), np.float32)})["total"].shape == (batch, 1)


@pytest.mark.parametrize("name", ROWS)
def test_unreadable_bytes_are_a_user_error(name: str) -> None:
    try:
        with pytest.raises(ModelError, match=name) as caught:
            lookup(name, RUNTIMES, "runtime")(b"this is not a network", RuntimeOptions())
    except (PackageMissing, DeviceMissing) as error:
        pytest.skip(str(error))
    assert caught.value.cure


@pytest.mark.parametrize("name", QUICK_ROWS)
@pytest.mark.parametrize("encoder", ["resnet", "mobilenet"])
def test_every_head_is_what_torch_computes(name: str, encoder: str) -> None:
    model, expected, picture = two_heads(encoder)
    with open_row(name, model.SerializeToString()) as opened:
        found = opened.run({opened.inputs[0].name: picture})
    assert sorted(found) == sorted(expected)
    for task, value in expected.items():
        assert found[task].shape == value.shape
        assert np.abs(found[task] - value).max() <= 1e-4 * np.abs(value).max(), task


@pytest.mark.parametrize("name", sorted(SLOW_TO_OPEN))
def test_compiled_code_computes_the_same(name: str) -> None:
    image = np.random.default_rng(1).standard_normal((1, 3, 24, 24)).astype(np.float32)
    with open_row(name, stack_model(8)) as compiled, open_row("torch", stack_model(8)) as eager:
        found, expected = compiled.run({"image": image})["out"], eager.run({"image": image})["out"]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", QUICK_ROWS)
def test_quantized_pairs_are_computed_as_onnx_says(name: str) -> None:
    """The judge is onnxruntime without any fusion. Kernels may round a value to the neighbouring step, rarely."""
    model, (_, _, picture) = quantized_two_heads(), two_heads("resnet")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    judge = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in judge.get_outputs()]
    expected = dict(zip(names, judge.run(names, {judge.get_inputs()[0].name: picture})))
    with open_row(name, model.SerializeToString()) as opened:
        found = opened.run({opened.inputs[0].name: picture})
    for task, value in expected.items():
        assert np.sqrt(np.mean((found[task] - value) ** 2)) <= 0.05 * value.std(), task


@pytest.mark.parametrize("name", ROWS)
def test_closing_frees_what_opening_took(name: str) -> None:
    """Weights of 4.2 MB, opened, run and closed again and again: a leak would hold each of them."""
    model, image = heavy_model(), np.ones((1, 1024), np.float32)
    times = 3 if name in SLOW_TO_OPEN else 12

    def use() -> None:
        with open_row(name, model) as opened:
            opened.run({"image": image})
            opened.bind({"image": image})()

    for _ in range(3):
        use()
    before = resident_mb()
    for _ in range(times):
        use()
    assert resident_mb() - before < times / 2 * 4.2


def resident_mb() -> float:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.parametrize("name", QUICK_ROWS)
def test_time_grows_with_work(name: str) -> None:
    """Sixteen times the multiply-adds take at least twice as long."""
    image = np.ones((1, 3, 24, 24), np.float32)
    with open_row(name, stack_model(16)) as small, open_row(name, stack_model(64)) as large:
        calls = [small.bind({"image": image}), large.bind({"image": image})]
        taken = [[milliseconds(call) for call in calls] for _ in range(15)][5:]
    assert statistics.median(t[1] for t in taken) > 2 * statistics.median(t[0] for t in taken)


def milliseconds(call: object) -> float:
    if hasattr(call, "timed"):
        return call.timed(1)[0]
    start = time.perf_counter_ns()
    call()  # type: ignore[operator]
    return (time.perf_counter_ns() - start) / 1e6


def test_layers_are_named_timed_and_traced_back(session: Session) -> None:
    if not session.times_layers:
        with pytest.raises(ModelError, match="times its layers"):
            session.layers({"image": IMAGE})
        return
    with open_row(session.runtime, stack_model(48)) as opened:
        image = {"image": np.ones((1, 3, 24, 24), np.float32)}
        call = opened.bind(image)
        whole_ms = statistics.median([milliseconds(call) for _ in range(15)][5:])
        layers = opened.layers(image, 10)
    assert len({layer.name for layer in layers}) == len(layers) >= 4
    assert all(layer.name and layer.ms >= 0 for layer in layers)
    assert 0.2 * whole_ms < sum(layer.ms for layer in layers) < 3 * whole_ms  # both medians, on a machine that is busy
    written = {tensor for layer in layers for tensor in layer.outputs}
    assert "out" in written and len(written & {f"{kind}{i}" for kind in "cr" for i in range(3)}) >= 3


def test_layers_refuse_wrong_inputs(session: Session) -> None:
    with pytest.raises(ModelError, match="image"):
        session.layers({"picture": IMAGE})


def test_device_memory_is_a_number_or_left_to_the_process(session: Session) -> None:
    peak_mb = session.peak_mb()
    assert peak_mb is None or peak_mb > 0


def test_options_are_plain_values_and_name_the_threads(session: Session) -> None:
    assert json.loads(json.dumps(dict(session.options))) == dict(session.options)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_thread_count_is_what_was_asked(name: str) -> None:
    before = torch.get_num_threads()
    with open_row(name, affine_model(), threads=2) as opened:
        assert 2 in opened.options.values()
        opened.run({"image": IMAGE})
        assert torch.get_num_threads() == before


def test_host_and_device_know_the_same_rows() -> None:
    assert list(RUNTIMES) == list(NETWORKS)


def test_zero_threads_are_refused() -> None:
    with pytest.raises(JobError, match="thread"):
        RuntimeOptions(threads=0)


def test_openvino_never_runs_in_bfloat16() -> None:
    pytest.importorskip("openvino")
    with lookup("openvino", RUNTIMES, "runtime")(affine_model(), RuntimeOptions()) as opened:
        assert "f32" in opened.options["precision"] or "float32" in opened.options["precision"]
