"""A cut network is the torch network of that size, whatever the graph holds, and says how good its statistics are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import graph_toy
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from mtnas.base.errors import CheckpointError, SpaceError, StaleStatistics
from mtnas.base.groups import Selection, axis_slices
from mtnas.base.seeds import generator
from mtnas.graph.build import build_elastic_graph
from mtnas.graph.elastic_graph import ElasticGraph
from mtnas.graph.prove import random_selection, relative_error, run_model

TOLERANCE = 1e-4
WHOLE = Selection.of({})


@pytest.fixture(scope="module")
def model() -> graph_toy.Toy:
    return graph_toy.toy()


@pytest.fixture(scope="module")
def graph(model: graph_toy.Toy) -> ElasticGraph:
    return build_elastic_graph(model, graph_toy.image(), graph_toy.toy_groups())


@pytest.fixture(scope="module")
def selections(graph: ElasticGraph) -> list[Selection]:
    rng = generator(1, "toy")
    corners = [WHOLE, Selection.prefix({"stem": 1, "twin": 1, "hidden": 1, "mixed": 1})]
    return corners + [random_selection(graph, rng) for _ in range(20)]


def reference(model: graph_toy.Toy, selection: Selection, batch: int = 1) -> dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = graph_toy.small_toy(model, selection)(graph_toy.image(batch))
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert relative_error(found[name], array) <= TOLERANCE


@pytest.mark.parametrize("fold_bn", [True, False])
def test_cut_equals_the_torch_network_of_that_size(
    model: graph_toy.Toy, graph: ElasticGraph, selections: list[Selection], fold_bn: bool
) -> None:
    for selection in selections:
        cut = graph.cut(selection, fold_bn=fold_bn)
        assert_equal(run_model(cut, graph_toy.image().numpy()), reference(model, selection))


def test_file_is_what_older_runtimes_read(graph: ElasticGraph, selections: list[Selection]) -> None:
    for selection in selections[:3]:
        cut = graph.cut(selection)
        onnx.checker.check_model(cut, full_check=True)
        assert cut.ir_version <= 10
        assert [(entry.domain, entry.version) for entry in cut.opset_import] == [("", 20)]
        assert [value.name for value in cut.graph.input] == ["image"]
        assert [value.name for value in cut.graph.output] == ["depth", "label"]


def test_initializers_keep_their_state_names(model: graph_toy.Toy, graph: ElasticGraph) -> None:
    names = {tensor.name for tensor in graph.full_model().graph.initializer}
    assert {name for name in model.state_dict() if "num_batches" not in name} <= names


def test_weights_are_sliced_exactly_as_axis_slices_says(model: graph_toy.Toy, graph: ElasticGraph) -> None:
    selection = random_selection(graph, generator(5))
    cut = {t.name: numpy_helper.to_array(t) for t in graph.cut(selection, fold_bn=False).graph.initializer}
    state = graph_toy.sliced_state(model, selection)
    compared = [name for name in cut if name in state]
    assert len(compared) > 40
    for name in compared:
        assert np.array_equal(cut[name], state[name]), name
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert set(axis_slices(graph.groups, selection, shapes)) <= set(state)


def test_batch_norm_is_folded_where_exact_and_only_there(graph: ElasticGraph) -> None:
    kept = [n.input[1] for n in graph.cut(WHOLE).graph.node if n.op_type == "BatchNormalization"]
    # `pre` follows a convolution with a bias and is folded; nothing else reads that convolution.
    assert kept == []
    plain = [n for n in graph.cut(WHOLE, fold_bn=False).graph.node if n.op_type == "BatchNormalization"]
    assert len(plain) == 7


def test_dynamic_batch(model: graph_toy.Toy, graph: ElasticGraph, selections: list[Selection]) -> None:
    for selection in selections[:4]:
        cut = graph.cut(selection, dynamic_batch=True)
        for batch in (1, 3):
            found = run_model(cut, graph_toy.image(batch).numpy())
            assert_equal(found, reference(model, selection, batch))


def test_save_and_load_give_the_same_bytes(graph: ElasticGraph, tmp_path: Path, selections: list[Selection]) -> None:
    graph.save(tmp_path)
    loaded = ElasticGraph.load(tmp_path)
    assert loaded.groups == graph.groups
    assert loaded.outputs == ("depth", "label")
    assert loaded.input_shape == graph.input_shape == (1, 3, 16, 16)
    for selection in selections[:4]:
        assert loaded.cut(selection).SerializeToString() == graph.cut(selection).SerializeToString()
        assert loaded.counts(selection) == graph.counts(selection)
    found = run_model(onnx.load_model(tmp_path / "elastic.onnx"), graph_toy.image(3).numpy())
    assert found["label"].shape == (3, 5)


def test_plan_and_model_must_belong_together(graph: ElasticGraph, tmp_path: Path) -> None:
    graph.save(tmp_path)
    with (tmp_path / "elastic.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(CheckpointError, match="ONNX file this plan was written for"):
        ElasticGraph.load(tmp_path)


# --- other weights, other statistics ---------------------------------------------------------------------------------


def test_state_may_be_full_size_or_sliced(model: graph_toy.Toy, graph: ElasticGraph) -> None:
    tuned = graph_toy.toy()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1.1).add_(0.01)
    selection = random_selection(graph, generator(7))
    expected = reference(tuned, selection)
    full = {name: tensor.numpy() for name, tensor in tuned.state_dict().items()}
    for state in (full, graph_toy.sliced_state(tuned, selection)):
        assert_equal(run_model(graph.cut(selection, state=state), graph_toy.image().numpy()), expected)


def test_statistics_of_the_selection_are_used_and_recorded(model: graph_toy.Toy, graph: ElasticGraph) -> None:
    selection = random_selection(graph, generator(8))
    small = graph_toy.small_toy(model, selection)
    rng = np.random.default_rng(0)
    statistics = {}
    for name, buffer in small.named_buffers():
        if "num_batches" not in name:
            statistics[name] = rng.uniform(0.5, 2.0, tuple(buffer.shape)).astype(np.float32)
            buffer.copy_(torch.from_numpy(statistics[name]))
    with torch.no_grad():
        expected = {name: tensor.numpy() for name, tensor in small(graph_toy.image()).items()}
    cut = graph.cut(selection, statistics=statistics)
    assert_equal(run_model(cut, graph_toy.image().numpy()), expected)
    assert note(cut) == "selection"
    assert note(graph.cut(selection)) == "full"
    assert note(graph.cut(WHOLE)) == "selection"
    assert note(graph.cut(selection, state=graph_toy.sliced_state(model, selection))) == "selection"


def note(model: onnx.ModelProto) -> str:
    return {entry.key: entry.value for entry in model.metadata_props}["mtnas.statistics"]


def test_wrong_selection_state_or_statistics_are_refused(model: graph_toy.Toy, graph: ElasticGraph) -> None:
    half = Selection.prefix({"stem": 8})
    with pytest.raises(SpaceError, match="a group of this model"):
        graph.cut(Selection.prefix({"nobody": 3}))
    with pytest.raises(SpaceError, match="frozen"):
        graph.cut(Selection.prefix({"depth": 1}))
    with pytest.raises(CheckpointError, match="unknown name 'stem.wieght'"):
        graph.cut(half, state={"stem.wieght": np.zeros((8, 3, 3, 3), np.float32)})
    with pytest.raises(CheckpointError, match=r"\(8, 3, 3, 3\) \(cut\) or \(16, 3, 3, 3\) \(full\)"):
        graph.cut(half, state={"stem.weight": np.zeros((9, 3, 3, 3), np.float32)})
    with pytest.raises(StaleStatistics):
        graph.cut(half, statistics={"stem_norm.running_mean": np.zeros(7, np.float32)})


def test_the_users_model_is_left_alone(model: graph_toy.Toy) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    build_elastic_graph(model, graph_toy.image(), graph_toy.toy_groups())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()


def test_cutting_counting_and_loading_never_import_torch(graph: ElasticGraph, tmp_path: Path) -> None:
    graph.save(tmp_path)
    script = """
import sys
from pathlib import Path
from mtnas.base.groups import Selection
from mtnas.graph.elastic_graph import ElasticGraph
graph = ElasticGraph.load(Path(sys.argv[1]))
selection = Selection.prefix({"stem": 3, "mixed": 2})
assert graph.cut(selection).ByteSize() > 0 and graph.counts(selection).macs > 0 and graph.features(selection).size
heavy = {"torch", "onnxruntime", "onnxscript", "onnx_ir", "torch_pruning"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
