"""The exam of every row of the runtimes table."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.errors import JobError, ModelError, PackageMissing
from mtnas.base.tables import lookup
from mtnas.measure.runtimes.base import RuntimeOptions, Session
from mtnas.measure.runtimes.table import RUNTIMES


def affine_model(batch: int | str = 2) -> bytes:
    """Two named outputs: 2x + 1, and the sum over features."""
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["m"]),
        helper.make_node("Add", ["m", "one"], ["affine"]),
        helper.make_node("ReduceSum", ["image", "axis"], ["total"], keepdims=1),
    ]
    weights = {"two": np.float32([2]), "one": np.float32([1]), "axis": np.int64([1])}
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, 3))],
        [
            helper.make_tensor_value_info("affine", TensorProto.FLOAT, (batch, 3)),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, (batch, 1)),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(params=sorted(RUNTIMES))
def session(request: pytest.FixtureRequest) -> Session:
    try:
        opened = lookup(request.param, RUNTIMES, "runtime")(affine_model(), RuntimeOptions(threads=1))
    except PackageMissing as error:
        pytest.skip(str(error))
    with opened:
        yield opened


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


def test_closed_session_is_refused_and_closing_twice_is_not(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(ModelError, match="closed"):
        session.run({"image": IMAGE})


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_free_batch_is_accepted(name: str) -> None:
    try:
        opened = lookup(name, RUNTIMES, "runtime")(affine_model("batch"), RuntimeOptions())
    except PackageMissing as error:
        pytest.skip(str(error))
    with opened:
        assert opened.inputs[0].shape == (None, 3)
        for batch in (1, 5):
            assert opened.run({"image": np.ones((batch, 3), np.float32)})["total"].shape == (batch, 1)


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_unreadable_bytes_are_a_user_error(name: str) -> None:
    try:
        with pytest.raises(ModelError, match=name) as caught:
            lookup(name, RUNTIMES, "runtime")(b"this is not a network", RuntimeOptions())
    except PackageMissing as error:
        pytest.skip(str(error))
    assert caught.value.cure


def test_zero_threads_are_refused() -> None:
    with pytest.raises(JobError, match="thread"):
        RuntimeOptions(threads=0)


def test_openvino_never_runs_in_bfloat16() -> None:
    pytest.importorskip("openvino")
    with lookup("openvino", RUNTIMES, "runtime")(affine_model(), RuntimeOptions()) as opened:
        assert "f32" in opened.options["precision"] or "float32" in opened.options["precision"]
