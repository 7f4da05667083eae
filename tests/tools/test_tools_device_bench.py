"""Benchmarks of measuring: their rules and rows, with small networks and fake times; nothing here is a benchmark."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from mtnas.base.quantity import Measured
from mtnas.graph.count_model import count_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.gate import Verdict
from tools.bench import gate
from tools.bench.certificates import BUDGETS, shares
from tools.bench.gate import Change, chain, sorted_out
from tools.bench.table import BENCHMARKS


def test_the_three_are_commands() -> None:
    assert {"gate", "certificates", "measure_rate"} <= BENCHMARKS.keys()


def test_chains_have_the_widths_asked_for() -> None:
    model = onnx.load_from_string(chain([8, 7], kernel=1))
    onnx.checker.check_model(model, full_check=True)
    assert [list(array.dims) for array in model.graph.initializer] == [[8, 3, 1, 1], [7, 8, 1, 1]]
    assert count_model(model).macs == gate.SIDE**2 * (8 * 3 + 7 * 8)
    assert chain([4]) == chain([4])


def verdict(word: str) -> Verdict:
    time = Measured(1.0, 0.9, 1.1, "ms", 9)
    return Verdict(word, 1.0, 0.99, 1.01, 1.0, time, time, word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sort", "right"),
    [
        ("misaligned", {"slower"}),
        ("int8, narrow", {"slower", "equal"}),
        ("true gain", {"faster"}),
        ("int8, wide", {"faster"}),
        ("A/A", {"equal"}),
    ],
)
def test_what_the_gate_should_say(sort: str, right: set[str]) -> None:
    change = Change(sort, "", b"", b"")
    assert {word for word in ("faster", "equal", "slower") if change.right(word)} == right


def test_candidates_are_sorted_by_their_first_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """After / before of each candidate; unclear ones are left out, the clearest come first."""
    ratios = [1.5, 1.02, 0.5, 1.1, 0.97, 0.8]

    def timed(models: dict[str, bytes], _config: MeasureConfig) -> dict[str, SimpleNamespace]:
        times = {name: 1.0 if "before" in name else ratios[int(name.split()[0])] for name in models}
        return {name: SimpleNamespace(p50=SimpleNamespace(value=time)) for name, time in times.items()}

    monkeypatch.setattr(gate, "measure", timed)
    candidates = [Change("int8" if n == 3 else "", f"{n}", b"", b"") for n in range(6)]
    found = sorted_out(candidates, MeasureConfig(), most=5)
    assert [(c.title, c.sort) for c in found] == [
        ("3", "int8, narrow"),
        ("0", "misaligned"),
        ("2", "true gain"),
        ("5", "true gain"),
    ]
    assert [c.title for c in sorted_out(candidates, MeasureConfig(), most=1) if c.sort == "true gain"] == ["2"]


def test_claims_count_false_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "never_slower", lambda *_args: verdict("slower"))
    wrong = Change("misaligned", "", chain([4]), chain([3]))
    rows = [gate.judged(wrong, seed, MeasureConfig()) for seed in range(3)]
    assert rows[0]["macs_percent"] == 75.0
    monkeypatch.setattr(gate, "never_slower", lambda *_args: verdict("faster"))
    rows += [gate.judged(replace(wrong, sort="A/A"), seed, MeasureConfig()) for seed in range(3)]
    refused, narrow, gains, false = gate.claims(rows)
    assert refused.met is True and false.met is False and false.value == 1.0
    assert narrow.met is None and gains.met is None  # nothing was judged, nothing is claimed


def test_certificates_are_counted_plainly() -> None:
    rows = [{"confirmed": True}] * 19
    assert shares("confirmed", [*rows, {"confirmed": False}], "confirmed", BUDGETS - 1).met is True
    assert shares("confirmed", [*rows[:18], *[{"confirmed": None}] * 2], "confirmed", BUDGETS - 1).met is False
    assert shares("confirmed", rows[:5], "confirmed", BUDGETS - 1).met is None


def test_random_selections_have_statistics_of_their_own_sizes() -> None:
    from mtnas.base.groups import Selection
    from tools.bench.measure_rate import Race

    def cut(_selection: Selection, *, fold_bn: bool) -> onnx.ModelProto:
        assert not fold_bn
        arrays = {"a.weight": (5, 3), "a.running_mean": (5,), "a.running_var": (5,)}
        tensors = [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in arrays.items()]
        return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))

    race = Race(None, SimpleNamespace(cut=cut), None, MeasureConfig())  # type: ignore[arg-type]
    found = race._statistics(Selection.of({}))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "a.running_mean": (5,),
        "a.running_var": (5,),
    }
