"""Parts of a network: a subset answers exactly what the whole answers, parts fit together, counts add up."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_zoo
import pytest
import zoo
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mtnas.base.errors import JobError
from mtnas.base.groups import Selection
from mtnas.elastic.graph import graph_of
from mtnas.elastic.model import make_elastic
from mtnas.graph.count_model import count_model
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.part_counts import count_parts
from mtnas.graph.subset import crossing_tensors, decoder_alone, keep_outputs, shared_alone
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.ptq import quantize_onnx
from mtnas.space.arch import Arch

ZOO = ("plain", "shared", "unet", "shared_tower")


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """onnx's own evaluator: no fusion, so equal nodes give equal bits."""
    onnx.checker.check_model(model, full_check=True)
    names = [output.name for output in model.graph.output]
    wanted = {value.name: feeds[value.name] for value in model.graph.input}
    return dict(zip(names, ReferenceEvaluator(model).run(None, wanted), strict=True))


def chain(names: str = "abc") -> onnx.ModelProto:
    """image -> stem; stem -> a; stem -> neck -> b, c: `neck` serves two of three tasks. 1x1 convolutions on 4x4."""
    rng, nodes, weights = np.random.default_rng(0), [], []

    def conv(source: str, out: str, into: int, width: int) -> None:
        array = rng.standard_normal((width, into, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w_{out}"))
        nodes.append(helper.make_node("Conv", [source, f"w_{out}"], [out]))

    conv("image", "stem", 3, 8)
    conv("stem", "a", 8, 2)
    conv("stem", "neck", 8, 4)
    conv("neck", "b", 4, 1)
    conv("neck", "c", 4, 5)
    sizes = {"a": 2, "b": 1, "c": 5}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 4, 4))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, sizes[name], 4, 4)) for name in names],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module", params=[*ZOO, "int8", "chain"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    if request.param == "chain":
        return chain()
    if request.param == "int8":
        return quantize_onnx(onnx_zoo.exported("shared"), onnx_zoo.calibration(1), QuantizeConfig())
    return onnx_zoo.exported(request.param)


def feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    (image,) = model.graph.input
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    return {"image": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def test_every_subset_answers_what_the_whole_answers(model: onnx.ModelProto) -> None:
    names = [output.name for output in model.graph.output]
    given = feeds(model)
    whole = run(model, given)
    for size in range(1, len(names) + 1):
        for tasks in itertools.combinations(names, size):
            part = keep_outputs(model, reversed(tasks))
            assert [output.name for output in part.graph.output] == list(tasks)
            for name, array in run(part, given).items():
                np.testing.assert_array_equal(array, whole[name])
            assert len(part.graph.node) <= len(model.graph.node)
    assert len(keep_outputs(model, names).graph.node) == len(model.graph.node)


def test_shared_part_and_decoders_are_the_whole(model: onnx.ModelProto) -> None:
    given = feeds(model)
    whole, shared = run(model, given), shared_alone(model)
    assert shared is not None
    inner = {**given, **run(shared, given)}
    for name, array in whole.items():
        np.testing.assert_array_equal(run(decoder_alone(model, name), inner)[name], array)


def test_nothing_unneeded_is_kept() -> None:
    part = keep_outputs(chain(), ["a"])
    assert [node.output[0] for node in part.graph.node] == ["stem", "a"]
    assert [tensor.name for tensor in part.graph.initializer] == ["w_stem", "w_a"]
    assert crossing_tensors(chain()) == ("stem", "neck")


def test_single_tasks_share_nothing() -> None:
    assert shared_alone(keep_outputs(chain(), ["a"])) is None


@pytest.mark.parametrize("tasks", [[], ["d"]])
def test_unknown_and_no_tasks_are_refused(tasks: list[str]) -> None:
    with pytest.raises(JobError):
        keep_outputs(chain(), tasks)


def test_counts_of_parts_by_hand() -> None:
    stem, neck, a, b, c = count_parts(chain())
    assert [part.tasks for part in (stem, neck, a, b, c)] == [("a", "b", "c"), ("b", "c"), ("a",), ("b",), ("c",)]
    assert [part.macs for part in (stem, neck, a, b, c)] == [16 * n for n in (3 * 8, 8 * 4, 8 * 2, 4 * 1, 4 * 5)]
    assert [part.weight_bytes for part in (stem, neck, a, b, c)] == [4 * n for n in (24, 32, 16, 4, 20)]
    assert [part.moved_bytes for part in (stem, neck, a, b, c)] == [64 * n for n in (3 + 8, 8 + 4, 8 + 2, 5, 9)]


def test_parts_add_up_to_the_whole(model: onnx.ModelProto) -> None:
    whole, parts = count_model(model), count_parts(model)
    assert sum(part.macs for part in parts) == whole.macs
    assert sum(part.weight_bytes for part in parts) == round(whole.size_mb * 1e6)


def test_int8_moves_fewer_bytes() -> None:
    whole = onnx_zoo.exported("shared")
    small = quantize_onnx(whole, onnx_zoo.calibration(1), QuantizeConfig())
    moved = [sum(part.moved_bytes for part in count_parts(m)) for m in (whole, small)]
    assert 0.2 * moved[0] < moved[1] < 0.8 * moved[0]


# --- an elastic graph for some tasks --------------------------------------------------------------------------------


def test_the_elastic_graph_of_some_tasks_is_kept_in_files(tmp_path: Path) -> None:
    elastic = make_elastic(zoo.build("residual"), zoo.image(), round_to=4, prove=False)
    graph = graph_of(elastic)
    last, *others = reversed(elastic.tasks)
    alone, selection = graph.answering([last]), elastic.selection(elastic.space.smallest)
    alone.save(tmp_path)
    again = ElasticGraph.load(tmp_path)
    assert again.outputs == (last,) and again.feature_names == alone.feature_names
    assert again.cut(selection).SerializeToString() == alone.cut(selection).SerializeToString()
    assert graph.outputs == elastic.tasks and graph.counts(selection).macs > alone.counts(selection).macs
    # decoders of other tasks are in none of its networks
    own = {choice.name: choice.options[0] for choice in elastic.space.choices if choice.owners == (others[0],)}
    largest = dict(elastic.space.largest.options)
    narrow = elastic.selection(Arch(tuple((name, own.get(name, option)) for name, option in largest.items())))
    assert own and alone.counts(narrow) == alone.counts(Selection.of({}))


def test_all_tasks_are_the_graph_itself_and_strangers_are_refused() -> None:
    graph = graph_of(make_elastic(zoo.build("plain"), zoo.image(), round_to=4, prove=False))
    assert graph.answering(reversed(graph.outputs)) is graph
    with pytest.raises(JobError, match="did you mean"):
        graph.answering([f"{graph.outputs[0]}s"])
    with pytest.raises(JobError, match="at least one task"):
        graph.answering([])
