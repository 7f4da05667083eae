"""Simplified files: the same outputs, never larger, the original left alone; and the gate in front of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.quantity import Measured
from mtnas.export.config import ExportConfig
from mtnas.export.simplify import simplified
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import Verdict
from mtnas.quantize.session import open_session, run_images
from mtnas.stages.export import simplest

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def model() -> onnx.ModelProto:
    """A convolution behind two identities, with an array that nobody reads."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)), "unread": rng.standard_normal(500)}
    nodes = [
        helper.make_node("Identity", ["image"], ["same"], name="one"),
        helper.make_node("Identity", ["same"], ["again"], name="two"),
        helper.make_node("Conv", ["again", "w"], ["depth"], name="conv", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "subject",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, 4, 8, 8))],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, {"mtnas.selection": "abc"})
    return made


def outputs(model: onnx.ModelProto) -> np.ndarray:
    return run_images(open_session(model), IMAGE)["depth"]


def test_a_simpler_graph_gives_the_same_outputs(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    simple, reason = simplified(model, IMAGE)
    assert simple is not None and not reason
    assert [node.op_type for node in simple.graph.node] == ["Conv"]
    assert [array.name for array in simple.graph.initializer] == ["w"]
    assert len(simple.SerializeToString()) < len(before)
    assert {entry.key: entry.value for entry in simple.metadata_props} == {"mtnas.selection": "abc"}
    np.testing.assert_allclose(outputs(simple), outputs(model), rtol=1e-5, atol=1e-6)
    assert model.SerializeToString() == before


def test_a_simple_graph_stays_as_it_is(model: onnx.ModelProto) -> None:
    simple, _ = simplified(model, IMAGE)
    assert simple is not None
    assert simplified(simple, IMAGE) == (None, "there is nothing to simplify")


def test_a_graph_with_other_outputs_is_refused(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(given: onnx.ModelProto) -> onnx.ModelProto:
        given.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w"))
        del given.graph.initializer[1]
        return given

    monkeypatch.setattr("onnxslim.slim", wrong)
    assert simplified(model, IMAGE) == (None, "onnxslim changed the outputs")
    monkeypatch.setattr("onnxslim.slim", lambda given: helper.make_model(onnx.GraphProto()))
    simple, reason = simplified(model, IMAGE)
    assert simple is None and "could not read" in reason


def verdict(word: str, ratio: float) -> Verdict:
    time = Measured(1.0, 0.99, 1.01, "ms", 100)
    return Verdict(word, ratio, ratio - 0.01, ratio + 0.01, 1.0, time, time, f"{word}: in numbers")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "ratio", "kept"), [("faster", 0.9, True), ("equal", 1.0, True), ("slower", 1.1, False)]
)
def test_a_slower_simplified_file_is_not_delivered(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, word: str, ratio: float, kept: bool
) -> None:
    monkeypatch.setattr("mtnas.stages.gate.never_slower", lambda *_args, **_named: verdict(word, ratio))
    delivered, gate = simplest(model, IMAGE, ExportConfig(), MeasureConfig())
    assert (delivered is not model) is kept
    record = gate.to_json()
    assert (record["step"], record["verdict"], record["ratio"]) == ("export", word, ratio)
    assert ("slower" in record["decision"]) is not kept


def test_an_unchanged_file_is_not_measured(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_named: object) -> Verdict:
        raise AssertionError("measured")

    monkeypatch.setattr("mtnas.stages.gate.never_slower", never)
    delivered, gate = simplest(model, IMAGE, ExportConfig(simplify=False), MeasureConfig())
    assert delivered is model
    assert gate.to_json() == {
        "schema": "gate/1",
        "step": "export",
        "verdict": "unchanged",
        "text": "unchanged: both files are equal byte for byte",
        "decision": "the graph is delivered as it came: simplifying is switched off",
    }
