"""The part of the report on control: shown when it was measured, with its reference, escaped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_run import FakeRun
from report_values import METRICS, UNITS
from test_report_page import EVIL, body_of, parsed

from mtnas.base.quantity import Counted
from mtnas.report.gather import gather
from mtnas.report.page import page
from mtnas.search.objectives import Objective
from mtnas.search.questions import Answer, Question, Reference, all_questions, control_record
from mtnas.space.arch import Arch

TITLE = "Control: what the dials do"


def with_control(run: FakeRun, count: int = len(METRICS), folder: str = "") -> FakeRun:
    """Two budgets: at one, each score rises by a tenth with its preference; the other cannot be kept."""
    names = dict(list(zip(METRICS, run.tasks, strict=True))[:count])
    lower = {"depth", "normals"}
    objectives = [Objective(names[t], UNITS[t], t not in lower) for t in names]
    full = {names[t]: next(iter(METRICS[t].values())) for t in names}

    def answer(question: Question) -> Answer:
        if question.budget["latency_ms"] == "5%":
            return Answer(question, reason="the smallest has 0.4 ms")
        gain = {task: 0.9 + 0.1 * question.preference[task] for task in full}
        scores = {o.name: full[o.name] * (gain[o.name] if o.higher_is_better else 2 - gain[o.name]) for o in objectives}
        arch = Arch.of({task: round(1000 * share) for task, share in question.preference.items()})
        return Answer(question, arch, scores, {"latency_ms": Counted(1.4, "ms")}, {"latency_ms": 1.5})

    asked = all_questions(list(full), [{"latency_ms": "50%"}, {"latency_ms": "5%"}], count=4, sweep=3)
    record = control_record(objectives, [answer(q) for q in asked], Reference("the unpruned network", full))
    run.write(f"{folder}4-search/control.json", {**record, "chooser": "configure", "split": "report"})
    return run


def test_it_is_shown_when_it_was_measured_and_only_then(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    assert TITLE not in page(gather(run.upto("search")))
    with_control(run)
    text = page(gather(tmp_path))
    body = body_of(text)
    assert TITLE in body and "relative to the unpruned network" in body and "reference point 2.0" in body
    assert body.count("score against") == 0 and body.count("against preference at 2 budgets") == len(METRICS)
    assert "16 of 16" in body and "0 of 16" in body and "latency 6.7" in body
    assert "55.1\u00a0% – 61.2\u00a0%" in body  # mIoU from none of the preference to all of it
    parsed(text)
    figures = [json.loads(part.split("</script>")[0]) for part in text.split('type="application/json">')[1:]]
    (segmentation,) = (
        f
        for f in figures
        if f["layout"]["xaxis"]["title"]["text"].startswith("preference") and f["layout"]["showlegend"]
    )
    sweep = next(trace for trace in segmentation["data"] if trace["mode"] == "lines+markers")
    assert sweep["x"] == [0, 0.5, 1] and sweep["y"] == pytest.approx([55.08, 58.14, 61.2])


def test_names_are_escaped_there_too(tmp_path: Path) -> None:
    run = with_control(FakeRun(tmp_path, prefix=EVIL))
    run.upto("search")
    text = page(gather(tmp_path))
    parsed(text)
    assert TITLE in text and "<script>alert(1)" not in text


def test_some_tasks_by_themselves_have_a_part_of_their_own(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, prefix=EVIL)
    run.upto("search")
    with_control(run, 2, "subsets/first+second/")
    (tmp_path / "subsets" / "bad" / "4-search").mkdir(parents=True)
    (tmp_path / "subsets" / "bad" / "4-search" / "control.json").write_text("{")
    text = page(gather(tmp_path))
    parsed(text)
    body = body_of(text)
    assert body.count(TITLE) == 1 and body.count("against preference at 2 budgets") == 2
    assert "of networks for" in body and "alone" in body and "<script>alert(1)" not in text
    assert "4-search/control.json" in body  # the damaged one
    with_control(run)
    assert body_of(page(gather(tmp_path))).count("against preference at 2 budgets") == 2 + len(METRICS)


def test_a_record_from_elsewhere_does_not_break_the_page(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.upto("search")
    run.write("4-search/control.json", {"schema": "control/1"})
    assert TITLE not in page(gather(tmp_path))
