"""The greedy return to float: the most damaged head first, output layers before the decoder, and no further."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx_zoo import calibration, exported, images

from mtnas.base.errors import JobError
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.fallback import Goal, Quantized, quantize_within
from mtnas.quantize.ptq import quantize_onnx
from mtnas.quantize.regions import branch, last_upsampling, output_layers
from mtnas.quantize.session import open_session, run_images

MODEL = "residual"


def float_layers(model: onnx.ModelProto, task: str) -> int:
    """How many convolutions and matrix products of a decoder read unquantized weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    names = set(branch(model.graph, task))
    return sum(node.name in names and node.input[1] in stored for node in model.graph.node if len(node.input) > 1)


FLOAT = {"segmentation": 0.5, "depth": 1.0, "presence": 0.8}
GOOD = {"segmentation": 0.499, "depth": 1.001, "presence": 0.81}
GOALS = {"segmentation": Goal(True), "depth": Goal(False), "presence": Goal(True)}


def scripted(table: list[Mapping[str, float]], goals: Mapping[str, Goal] | None = None) -> Quantized:
    """Quantize with scores that were written down beforehand; the float network's come first."""
    answers = iter([FLOAT, *table])
    return quantize_within(
        exported(MODEL), calibration(1), QuantizeConfig(), goals=goals or GOALS, score=lambda _: next(answers)
    )


def test_nothing_goes_back_to_float_when_every_task_is_kept() -> None:
    result = scripted([GOOD])
    assert result.kept and len(result.attempts) == 1
    assert result.config.float_heads == result.config.float_branches == ()
    assert result.reason == "every task keeps its bound"
    assert result.drops_percent(GOALS) == pytest.approx({"segmentation": 0.2, "depth": 0.1, "presence": -1.25})


def test_the_most_damaged_head_goes_first_then_its_decoder() -> None:
    bad = {"segmentation": 0.48, "depth": 1.2, "presence": 0.8}
    better = {**bad, "depth": 1.06}
    result = scripted([bad, better, {**GOOD, "segmentation": 0.489}, GOOD])
    steps = [(a.float_heads, a.float_branches) for a in result.attempts]
    assert steps == [((), ()), (("depth",), ()), ((), ("depth",)), (("segmentation",), ("depth",))]
    assert result.kept and "segmentation's output layers, depth's decoder in float" in result.reason
    assert float_layers(result.model, "depth") == 2
    assert [a["float_heads"] for a in result.to_json()["attempts"]] == [[], ["depth"], [], ["segmentation"]]


def test_it_gives_up_when_the_shared_part_is_to_blame() -> None:
    result = scripted([{**GOOD, "depth": 1.5}] * 3)
    assert not result.kept and len(result.attempts) == 3
    assert result.reason.startswith("depth misses its bound") and "shared layers" in result.reason


def test_a_floor_replaces_the_percentage_unless_float_misses_it_already() -> None:
    loses = {**GOOD, "depth": 1.04}
    assert scripted([loses], {**GOALS, "depth": Goal(False, bound=1.05)}).kept
    assert not scripted([loses] * 3, {**GOALS, "depth": Goal(False, bound=1.03)}).kept
    assert scripted([GOOD], {**GOALS, "depth": Goal(False, bound=0.9)}).kept
    assert not scripted([loses] * 3, {**GOALS, "depth": Goal(False, bound=0.9)}).kept


@pytest.mark.parametrize(
    ("goal", "value", "expected"),
    [
        (Goal(True), 0.49, 0.0),
        (Goal(True), 0.45, 0.08),
        (Goal(False), 0.51, 0.0),
        (Goal(True, bound=0.4), 0.35, 0.1),
        (Goal(True, bound=0.6), 0.45, 0.08),
    ],
)
def test_shortfall_is_a_share_of_the_float_score(goal: Goal, value: float, expected: float) -> None:
    assert goal.shortfall(value, 0.5, 2.0) == pytest.approx(expected)


def test_every_goal_needs_a_score() -> None:
    with pytest.raises(JobError, match="normals"):
        scripted([GOOD], {"normals": Goal(True)})


def test_it_works_on_real_outputs() -> None:
    """Scored by the error of the outputs themselves, a demanding task gets float layers and becomes better."""
    image_BCHW = images(8, seed=3)
    expected = run_images(open_session(exported(MODEL)), image_BCHW)

    def agreement(model: onnx.ModelProto) -> dict[str, float]:
        outputs = run_images(open_session(model), image_BCHW)
        return {t: 1.0 - float(np.abs(outputs[t] - v).mean() / np.abs(v).mean()) for t, v in expected.items()}

    plain = agreement(quantize_onnx(exported(MODEL), calibration()))
    goals = {"depth": Goal(True, bound=0.1 + 0.9 * plain["depth"]), "segmentation": Goal(True, bound=0.0)}
    result = quantize_within(exported(MODEL), calibration(), QuantizeConfig(), goals=goals, score=agreement)
    assert result.attempts[0].float_heads == () and result.attempts[1].float_heads == ("depth",)
    assert result.attempts[1].scores["depth"] > result.attempts[0].scores["depth"] == pytest.approx(plain["depth"])


# --- regions --------------------------------------------------------------------------------------------------------


def test_regions_of_a_head() -> None:
    graph = exported(MODEL).graph
    layers, after = output_layers(graph, "depth")
    kinds = {node.name: node.op_type for node in graph.node}
    assert [kinds[name] for name in layers] == ["Conv"]
    assert [kinds[name] for name in after] == ["Resize"] == [kinds[name] for name in last_upsampling(graph, "depth")]
    assert [kinds[name] for name in branch(graph, "depth")] == ["Conv", "Relu", "Conv", "Resize"]
    assert [kinds[name] for name in output_layers(graph, "presence")[0]] == ["Gemm"]


def test_a_branch_holds_nothing_that_another_task_needs() -> None:
    graph = exported("shared").graph
    branches = [set(branch(graph, task)) for task in ("depth", "normals")]
    assert branches[0] and branches[1] and not branches[0] & branches[1]


def test_two_layers_meeting_before_an_output_are_both_output_layers() -> None:
    graph = exported("other_norms").graph
    assert len(output_layers(graph, "depth")[0]) == 1
    assert output_layers(graph, "nobody") == ([], [])
