"""How numbers are written, and where a metric's name and direction come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_run import FakeRun
from report_values import counted, measured, predicted

from mtnas.report.fronts import nondominated, staircase
from mtnas.report.gather import gather
from mtnas.report.html import Html, esc, script_json, tag
from mtnas.report.sections.train import step_words, whose_losses
from mtnas.report.words import (
    better_percent,
    cost,
    direction,
    large,
    metric_words,
    number,
    percent,
    primary_metric,
    quantity,
    score,
    seconds,
    tasks_of,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9, "0.900"),
        (3.1, "3.100"),
        (1395.2, "1,395"),
        (0.00123, "0.0012"),
        (0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (-2.5, "−2.500"),
    ],
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert number(value) == text


def test_units_stay_with_their_numbers() -> None:
    space = "\u00a0"
    assert cost(1.3952, "latency_ms") == f"1.395{space}ms"
    assert cost(4.16, "size_mb") == f"4.16{space}MB"
    assert cost(310e6, "macs") == f"310{space}M"
    assert cost(2.5, "some_new_cost") == "2.500"
    assert score(61.24, "miou") == f"61.2{space}%"
    assert score(14.2, "mean_angle") == "14.2°"
    assert score(0.41, "never_heard_of") == "0.410"
    assert large(1_040_000) == f"1.04{space}M"
    assert large(999) == "999"
    assert percent(-3.25) == f"−3.2{space}%"
    assert seconds(141) == "2 min 21 s"


def test_better_always_means_better() -> None:
    assert better_percent(50, 55, True) == pytest.approx(10)
    assert better_percent(50, 55, False) == pytest.approx(-10)
    assert better_percent(0, 55, True) is None
    assert better_percent(None, 1, True) is None


def test_the_three_kinds_of_number_never_look_alike() -> None:
    shown = [quantity(value, "latency_ms") for value in (measured(1.0), predicted(1.0), counted(1.0, "ms"))]
    assert len(set(shown)) == 3
    assert 'class="q measured"' in shown[0]
    assert "≈" in shown[1]
    assert "≈" not in shown[0] + shown[2]
    assert "360 runs on local-ort" in shown[0]
    assert "interval" in quantity(measured(1.0), "latency_ms", True)
    assert "interval" not in quantity(counted(1.0, "ms"), "latency_ms", True).replace("title=", "")


def test_unknown_metrics_have_a_direction() -> None:
    assert metric_words("within_22.5").higher_is_better
    assert metric_words("delta_1.25^2").unit == "%"
    assert not metric_words("endpoint_error").higher_is_better
    assert metric_words("recall").higher_is_better


def test_primary_metrics_come_from_the_run(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "a")
    before = gather(run.upto("train"))
    after = gather(FakeRun(tmp_path / "b").upto("search"))
    for results in (before, after):
        assert tasks_of(results) == ("segmentation", "depth", "normals", "edges")
        assert primary_metric(results, "depth") == "abs_err"
        assert direction(results, "depth") is False
        assert direction(results, "segmentation") is True


# --- fronts -----------------------------------------------------------------------------------------------------------


def test_dominated_and_infeasible_networks_are_not_on_a_front() -> None:
    objectives = [{"name": "miou", "higher_is_better": True}, {"name": "latency_ms", "higher_is_better": False}]

    def row(name: str, miou: float, latency: float, feasible: bool = True) -> dict[str, object]:
        return {"id": name, "objectives": {"miou": miou, "latency_ms": latency}, "feasible": feasible}

    rows = [row("a", 60, 2), row("b", 50, 1), row("c", 49, 1.5), row("d", 70, 1, feasible=False), row("e", 60, 2)]
    assert [found["id"] for found in nondominated(rows, objectives)] == ["a", "b", "e"]
    assert nondominated([], objectives) == []


def test_a_staircase_only_climbs() -> None:
    points = [(1.0, 5.0, {}), (2.0, 4.0, {}), (3.0, 6.0, {}), (3.0, 7.0, {}), (4.0, 7.0, {})]
    assert [(x, y) for x, y, _ in staircase(points, True)] == [(1.0, 5.0), (3.0, 7.0)]
    assert [(x, y) for x, y, _ in staircase(points, False)] == [(1.0, 5.0), (2.0, 4.0)]


# --- markup -----------------------------------------------------------------------------------------------------------


def test_text_is_escaped_once_and_markup_never() -> None:
    assert tag("p", None, "<b>&") == "<p>&lt;b&gt;&amp;</p>"
    assert tag("p", None, tag("b", None, "x")) == "<p><b>x</b></p>"
    assert tag("a", {"title": '"><script>', "hidden": None}) == '<a title="&quot;&gt;&lt;script&gt;"></a>'
    assert esc(Html("<i>")) == "<i>"


def test_json_in_scripts_cannot_end_them() -> None:
    text = script_json({"</script>": ["<!--", float("nan"), float("inf"), 1.5, "a & b"]})
    assert not set("<>&") & set(text)
    assert "null,null,1.5" in text


@pytest.mark.parametrize(
    ("networks", "step", "losses"),
    [
        (1.0, "one network, the next one", "all networks in turn"),
        (4.0, "4.00 networks in 4.00 ", "the largest network"),
    ],
)
def test_a_step_says_how_many_networks_it_trains_and_whose_losses_are_shown(
    networks: float, step: str, losses: str
) -> None:
    record = {"cost": {"ratio": networks / 2, "networks": networks, "shared_passes": networks}}
    assert step in (step_words(record) or "") and whose_losses(record) == losses
