"""Costs of parts: closed forms for the fit, then a real network whose decoders differ by construction."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from measure_subject import quick_config
from onnx import TensorProto, helper, numpy_helper

from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.quantity import Measured, Predicted
from mtnas.measure.additive import checkable, fit_parts, incidence, residuals_percent, subsets_to_measure
from mtnas.measure.part_costs import PartCosts
from mtnas.measure.parts import measure_parts

TASKS = ("a", "b", "c")
PARTS = (TASKS, ("b", "c"), ("a",), ("b",), ("c",))


def test_parts_come_back_exactly_when_costs_add_up() -> None:
    truth = np.array([3.0, 0.5, 1.0, 0.25, 0.0])
    rows = incidence(PARTS, subsets_to_measure(TASKS))
    cost = rows @ truth + 0.125
    assert checkable(rows)
    np.testing.assert_allclose(fit_parts(rows, cost, 0.125), truth, atol=1e-9)
    np.testing.assert_allclose(residuals_percent(rows, cost, truth, 0.125), 0.0, atol=1e-9)


def test_no_part_is_negative_and_the_residual_says_so() -> None:
    """Two tasks together cost less than one of them: no sum of parts can tell that."""
    parts = (("a", "b"), ("a",), ("b",))
    subsets = (("a", "b"), ("a",), ("b",))
    rows, cost = incidence(parts, subsets), np.array([1.0, 2.0, 1.0])
    found = fit_parts(rows, cost)
    assert (found >= 0).all()
    assert np.abs(residuals_percent(rows, cost, found, 0.0)).max() > 10


@pytest.mark.parametrize(("count", "subsets"), [(1, 1), (2, 3), (4, 15), (5, 31), (6, 28), (9, 40)])
def test_every_subset_of_few_tasks_is_measured(count: int, subsets: int) -> None:
    tasks = tuple("abcdefghi"[:count])
    found = subsets_to_measure(tasks)
    assert found[0] == tasks
    assert len(found) == len(set(found)) == subsets
    assert {(task,) for task in tasks} <= set(found)
    parts = [tasks, *((task,) for task in tasks)][count == 1 :]
    assert np.linalg.matrix_rank(incidence(parts, found)) == len(parts)


def network(widths: dict[str, int], trunk: int = 32, side: int = 32) -> onnx.ModelProto:
    """A trunk of three 3x3 convolutions, and per task two as wide as it says."""
    rng, nodes, weights = np.random.default_rng(0), [], []

    def conv(source: str, out: str, into: int, width: int) -> None:
        array = rng.standard_normal((width, into, 3, 3)).astype(np.float32) * 0.05
        weights.append(numpy_helper.from_array(array, f"w_{out}"))
        nodes.append(helper.make_node("Conv", [source, f"w_{out}"], [f"c_{out}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c_{out}"], [out]))

    for source, out, into in (("image", "t0", 3), ("t0", "t1", trunk), ("t1", "t2", trunk)):
        conv(source, out, into, trunk)
    for task, width in widths.items():
        conv("t2", f"{task}0", trunk, width)
        conv(f"{task}0", task, width, width)
    graph = helper.make_graph(
        nodes,
        "parts",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, side, side))],
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, (1, w, side, side)) for t, w in widths.items()],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def costs() -> PartCosts:
    return measure_parts(network({"thin": 16, "wide": 64, "middle": 32}), quick_config())


def test_parts_of_a_real_network(costs: PartCosts) -> None:
    assert [part.name for part in costs.parts] == ["shared", "thin", "wide", "middle", "call"]
    ms = {part.name: part.latency_ms.value for part in costs.parts}
    assert ms["wide"] > 2 * ms["thin"]  # eight times the multiply-adds
    assert ms["wide"] > ms["middle"]
    assert ms["call"] < ms["wide"]
    assert costs.error_percent is not None
    assert costs.error_percent < 50
    assert abs(sum(ms.values()) / costs.whole.latency_ms.value - 1) * 100 == pytest.approx(
        abs(costs.whole.error_percent or 0.0)
    )
    macs = sum(part.macs.value for part in costs.parts)
    assert macs == 32 * 32 * 9 * (3 * 32 + 2 * 32 * 32 + sum(32 * w + w * w for w in (16, 64, 32)))


def test_more_tasks_take_longer(costs: PartCosts) -> None:
    assert len(costs.subsets) == 7
    assert all(isinstance(subset.latency_ms, Measured) for subset in costs.subsets)
    assert costs.whole.tasks == ("thin", "wide", "middle")
    assert costs.latency(["thin"]).value < costs.latency(["wide", "thin"]).value
    assert costs.latency(["middle", "wide", "thin"]) == costs.whole.latency_ms


def test_memory_is_shared_out_with_its_error(costs: PartCosts) -> None:
    assert costs.memory_mb is not None
    assert costs.memory_mb.value > 0
    assert costs.memory_sum_mb is not None
    assert costs.memory_error_percent is not None
    assert abs(costs.memory_sum_mb / costs.memory_mb.value - 1) * 100 <= costs.memory_error_percent + 1e-6


def test_costs_survive_json(costs: PartCosts) -> None:
    text = json.dumps(costs.to_json())
    assert PartCosts.from_json(json.loads(text)) == costs
    with pytest.raises(CheckpointError):
        PartCosts.from_json({"schema": "parts/0"})


def test_unmeasured_subsets_are_predicted(costs: PartCosts) -> None:
    from dataclasses import replace

    fewer = replace(costs, subsets=costs.subsets[:1])
    found = fewer.latency(["thin", "wide"])
    assert isinstance(found, Predicted)
    assert found.low <= found.value <= found.high
    truth = costs.latency(["thin", "wide"]).value
    assert found.value == pytest.approx(truth, rel=(costs.error_percent or 0) / 100 + 1e-6)
    with pytest.raises(JobError, match="thick"):
        fewer.latency(["thick"])
    with pytest.raises(JobError, match="thick"):
        costs.part("thick")


def test_one_task_has_no_shared_part() -> None:
    found = measure_parts(network({"only": 16}, trunk=16, side=8), quick_config(), memory=False)
    assert [part.name for part in found.parts] == ["only", "call"]
    assert found.shared_alone_ms is None
    assert found.error_percent is None  # one network, one part: exact by construction
    assert found.memory_mb is None
