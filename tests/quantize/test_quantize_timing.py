"""Timing copies are built like really quantized networks: same pairs, same kernels, same time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import astuple

import numpy as np
import onnx
import pytest
import zoo
from onnx import numpy_helper
from onnx_zoo import exported, images

from mtnas.base.errors import JobError
from mtnas.encoders.make import make_encoder
from mtnas.export.config import ExportConfig
from mtnas.export.onnx_file import export_onnx
from mtnas.graph.branches import SHARED
from mtnas.heads.make import make_head
from mtnas.heads.model import MultiTaskNet
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import never_slower
from mtnas.quantize.check import int8_report
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.dialects import DIALECTS
from mtnas.quantize.levels import not_negative
from mtnas.quantize.prepare import named
from mtnas.quantize.ptq import kept_in_float, quantize_onnx
from mtnas.quantize.session import open_session, run_images
from mtnas.quantize.timing import timing_copy

PAIR = {"QuantizeLinear", "DequantizeLinear"}


def structure(model: onnx.ModelProto) -> Counter[tuple[object, ...]]:
    """Every node with what stands before each input and behind each output, apart from names and numbers."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def before(name: str) -> tuple[object, ...]:
        if name in stored:
            return ("stored", stored[name].data_type, tuple(stored[name].dims))
        maker = makers.get(name)
        if maker is None or maker.op_type not in PAIR:
            return ("plain", maker.name if maker is not None and maker.op_type not in PAIR else name)
        axis = tuple((a.name, a.i) for a in maker.attribute if a.name == "axis" and stored[maker.input[1]].dims)
        zero = numpy_helper.to_array(stored[maker.input[2]])
        scale = stored[maker.input[1]]
        return (maker.op_type, tuple(scale.dims), str(zero.dtype), axis, before(maker.input[0]))

    def behind(name: str) -> tuple[object, ...]:
        return tuple(sorted(node.op_type for node in readers.get(name, [])))

    return Counter(
        (
            node.name if node.op_type not in PAIR else "",
            node.op_type,
            tuple(before(name) for name in node.input if name and node.op_type not in PAIR),
            tuple(behind(name) for name in node.output),
        )
        for node in model.graph.node
    )


OURS = {"resnet": "fpn", "mobilenet": "pooled", "vit": "fpn"}


@pytest.fixture(scope="module", params=[*zoo.ZOO, *OURS])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A zoo model, or one of our encoders with two heads of one kind."""
    if request.param in zoo.ZOO:
        return exported(request.param)
    body = make_encoder(request.param, width=16, depth=(1, 1, 1))
    channels = [level.channels for level in body.levels]
    head = OURS[request.param]
    heads = {task: make_head(head, level_channels=channels, channels=c, width=16) for task, c in (("a", 5), ("b", 3))}
    model = MultiTaskNet(body, heads)
    zoo.randomise(model)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return export_onnx(model.eval(), zoo.image(1), path, ExportConfig())


def real(network: onnx.ModelProto, **settings: object) -> onnx.ModelProto:
    return quantize_onnx(network, [images(1)], QuantizeConfig(**settings))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_copy_has_the_pairs_of_the_real_thing(network: onnx.ModelProto, dialect: str) -> None:
    expected, copy = real(network, dialect=dialect), timing_copy(network, dialect)
    onnx.checker.check_model(copy, full_check=True)
    wanted, found = structure(expected), structure(copy)
    assert found == wanted, (found - wanted, wanted - found)
    assert copy.ir_version == expected.ir_version and copy.opset_import == expected.opset_import
    assert abs(len(copy.SerializeToString()) / len(expected.SerializeToString()) - 1) < 0.1


def test_a_copy_runs_the_kernels_of_the_real_thing(network: onnx.ModelProto) -> None:
    wanted, found = int8_report(real(network)), int8_report(timing_copy(network, "onnxruntime-x64"))
    assert sorted(found.int8) == sorted(wanted.int8)
    assert sorted(map(astuple, found.floats)) == sorted(map(astuple, wanted.floats))
    assert found.operators == wanted.operators and found.conversions == wanted.conversions


@pytest.mark.parametrize("branches", [("depth",), ("segmentation", "depth"), (SHARED,), (SHARED, "presence")])
@pytest.mark.parametrize("dialect", ["onnxruntime-x64", "openvino"])
def test_branches_in_float_are_those_of_the_real_thing(dialect: str, branches: tuple[str, ...]) -> None:
    model = exported("residual")
    wanted = structure(real(model, dialect=dialect, float_branches=branches))
    assert structure(timing_copy(model, dialect, float_branches=branches)) == wanted


def test_the_shared_part_in_float_leaves_the_decoders_as_int8() -> None:
    model = exported("residual")
    report = int8_report(timing_copy(model, "onnxruntime-x64", float_branches=(SHARED,)))
    shared = {node.name for node in model.graph.node if node.op_type == "Conv"}
    kept = {node.name for node in report.float_layers}
    assert (
        kept < shared
        and report.int8_nodes
        and kept
        == set(kept_in_float(model.graph, QuantizeConfig(float_branches=(SHARED,), float_upsampling=False))) & shared
    )


def test_other_exceptions_follow_the_settings_of_quantization() -> None:
    model = exported("residual")
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    settings: dict[str, object] = {"float_nodes": (first,), "float_heads": ("depth",), "float_upsampling": False}
    wanted = structure(real(model, **settings))
    assert structure(timing_copy(model, "onnxruntime-x64", **settings)) == wanted


def test_the_model_given_is_left_alone_and_two_copies_are_the_same_bytes() -> None:
    model = exported("residual")
    before = model.SerializeToString(deterministic=True)
    copies = [timing_copy(model, "onnxruntime-x64").SerializeToString(deterministic=True) for _ in range(2)]
    assert copies[0] == copies[1] and model.SerializeToString(deterministic=True) == before


def test_zero_points_are_zero_exactly_where_values_cannot_be_negative() -> None:
    model = exported("residual")
    copy = timing_copy(model, "onnxruntime-x64")
    zeros = {
        t.name: int(numpy_helper.to_array(t))
        for t in copy.graph.initializer
        if t.name.endswith("_zero_point") and not t.dims
    }
    zeros = {name: value for name, value in zeros.items() if not name.endswith("_quantized_zero_point")}
    positive = not_negative(named(model).graph, {})
    assert zeros["image_zero_point"] == 128 and set(zeros.values()) == {0, 128}
    for name, value in zeros.items():
        assert (value == 0) == (name.removesuffix("_zero_point") in positive)
    session = open_session(model)
    assert positive and all((v >= 0).all() for k, v in run_images(session, images(2)).items() if k in positive)


def test_weights_are_the_networks_own_and_scales_differ() -> None:
    model = exported("plain")
    wanted, found = (
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
        for m in (real(model), timing_copy(model, "onnxruntime-x64"))
    )
    weights = [name for name in wanted if name.endswith("weight_quantized")]
    assert weights and all(np.array_equal(found[name], wanted[name]) for name in weights)
    scales = [float(a) for name, a in found.items() if name.endswith("_scale") and a.ndim == 0]
    assert len(set(scales)) == len(scales)


def test_a_copy_takes_milliseconds() -> None:
    model = exported("residual")
    timing_copy(model, "onnxruntime-x64")
    start = time.perf_counter()
    timing_copy(model, "onnxruntime-x64")
    assert time.perf_counter() - start < 0.2


def test_wrong_names_are_refused() -> None:
    with pytest.raises(JobError, match="did you mean 'openvino'"):
        timing_copy(exported("plain"), "openvin")
    with pytest.raises(JobError, match="a task of the model"):
        timing_copy(exported("plain"), "openvino", float_branches=("dept",))


def test_a_copy_takes_as_long_as_the_real_thing() -> None:
    """Loose: the interval of the ratio comes within a tenth of one."""
    model = exported("high_resolution")
    config = MeasureConfig(rounds=10, max_rounds=15, round_ms=5.0, round_runs=10, warmup_ms=20, warmup_cap_ms=200)
    before, after = (m.SerializeToString() for m in (real(model), timing_copy(model, "onnxruntime-x64")))
    verdict = never_slower(before, after, config)
    assert verdict.low < 1.1 and verdict.high > 0.9
