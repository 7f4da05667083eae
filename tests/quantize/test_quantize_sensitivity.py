"""The greedy return to float: the most damaged head first, output layers before the decoder, and no further."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx_zoo import calibration, exported, images

from mtnas.base.errors import InternalError, JobError
from mtnas.quantize.config import QuantizeConfig
from mtnas.quantize.regions import branch, last_upsampling, output_layers
from mtnas.quantize.sensitivity import Quantized, allowed_loss_percent, quantize_within
from mtnas.quantize.session import open_session, run_images

MODEL = "residual"


def float_layers(model: onnx.ModelProto, task: str) -> int:
    """How many convolutions and matrix products of a decoder read unquantized weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    names = set(branch(model.graph, task))
    return sum(node.name in names and node.input[1] in stored for node in model.graph.node if len(node.input) > 1)


def scripted(table: list[Mapping[str, float]], allowed: Mapping[str, float] | None = None) -> Quantized:
    """Quantize with losses that were written down beforehand."""
    answers = iter(table)
    return quantize_within(
        exported(MODEL), lambda: calibration(1), QuantizeConfig(), lambda _: next(answers), allowed_percent=allowed
    )


GOOD = {"segmentation": 0.1, "depth": 0.2, "presence": -1.0}


def test_nothing_goes_back_to_float_when_every_task_is_kept() -> None:
    result = scripted([GOOD])
    assert result.kept and len(result.attempts) == 1
    assert result.config.float_heads == result.config.float_branches == ()
    assert result.reason == "every task loses little enough"


def test_the_most_damaged_head_goes_first_then_its_decoder() -> None:
    bad = {"segmentation": 3.0, "depth": 9.0, "presence": 0.0}
    better = {"segmentation": 3.0, "depth": 4.0, "presence": 0.0}
    result = scripted([bad, better, {**GOOD, "segmentation": 2.5}, GOOD])
    steps = [(a.float_heads, a.float_branches) for a in result.attempts]
    assert steps == [((), ()), (("depth",), ()), ((), ("depth",)), (("segmentation",), ("depth",))]
    assert result.kept and "segmentation's output layers, depth's decoder in float" in result.reason
    assert float_layers(result.model, "depth") == 2
    assert [a["float_heads"] for a in result.to_json()["attempts"]] == [[], ["depth"], [], ["segmentation"]]


def test_it_gives_up_when_the_shared_part_is_to_blame() -> None:
    hopeless = {"segmentation": 0.0, "depth": 9.0, "presence": 0.0}
    result = scripted([hopeless] * 3)
    assert not result.kept and len(result.attempts) == 3
    assert result.reason.startswith("depth loses 9.00 %") and "shared layers" in result.reason


def test_what_a_task_may_lose_can_be_told() -> None:
    loses = {"segmentation": 1.9, "depth": 4.0, "presence": 0.0}
    assert scripted([loses], {"depth": 5.0}).kept
    assert not scripted([{**loses, "segmentation": 2.1}] * 9, {"depth": 5.0}).kept


def test_losses_must_be_numbers_of_the_models_tasks() -> None:
    with pytest.raises(JobError, match="normals"):
        scripted([{"normals": 1.0}])
    with pytest.raises(InternalError):
        scripted([{"depth": float("nan")}])


def test_it_works_on_real_outputs() -> None:
    """Judged by the error of the outputs themselves, a demanding task gets float layers and becomes better."""
    image_BCHW = images(8, seed=3)
    expected = run_images(open_session(exported(MODEL)), image_BCHW)

    def losses(model: onnx.ModelProto) -> dict[str, float]:
        outputs = run_images(open_session(model), image_BCHW)
        return {t: 100 * float(np.abs(outputs[t] - v).mean() / np.abs(v).mean()) for t, v in expected.items()}

    plain = quantize_within(exported(MODEL), calibration, QuantizeConfig(max_drop_percent=100.0), losses)
    first = plain.attempts[0].losses_percent
    allowed = dict.fromkeys(first, 100.0) | {"depth": 0.9 * first["depth"]}
    strict = quantize_within(exported(MODEL), calibration, QuantizeConfig(), losses, allowed_percent=allowed)
    assert strict.attempts[1].float_heads == ("depth",)
    assert strict.attempts[-1].losses_percent["depth"] < first["depth"]


@pytest.mark.parametrize(
    ("bound", "value", "higher", "expected"),
    [(0.97, 1.0, True, 3.0), (1.03, 1.0, False, 3.0), (1.1, 1.0, True, None), (0.5, 0.0, False, None)],
)
def test_a_floor_becomes_a_percentage(bound: float, value: float, higher: bool, expected: float | None) -> None:
    found = allowed_loss_percent(bound, value, higher)
    assert found == (expected if expected is None else pytest.approx(expected))


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
