"""What a person reads in the terminal: units, directions, the delivered row, one remaining time."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from mtnas.console import LineTask
from mtnas.stages.outcome import outcome_text
from mtnas.tasks.base import TaskSpec, make_task


def row(name: str) -> dict[str, object]:
    primary = {
        task: {**make_task(TaskSpec(task, task, channels)).primary.to_json(), "value": 0.5}
        for task, channels in (("segmentation", 3), ("depth", 1))
    }
    primary = {task: {**cell, "metric": cell["name"]} for task, cell in primary.items()}
    latency = {"value": 1.25}
    costs = {"macs": 2e6, "size_mb": 0.5, "latency_ms_p50": latency, "latency_ms_p95": latency}
    return {"name": name, "primary": primary, **costs}


def test_the_table_tells_units_directions_and_what_is_delivered() -> None:
    result = {"stage": "verify", "table": [row("full"), row("pruned"), row("int8")], "heads": [], "model": "m.onnx"}
    lines = outcome_text({**result, "delivered": "pruned"}).splitlines()
    assert "segmentation miou % (+)" in lines[1] and "depth abs_err m (-)" in lines[1]
    assert [line.split()[:2] for line in lines[2:5]] == [["full", "0.5"], ["pruned", "*"], ["int8", "0.5"]]
    assert "delivered" in lines[5]


def test_one_remaining_time_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtnas.console._LINE_EVERY_S", 0.0)
    text = io.StringIO()
    task = LineTask(Console(file=text, width=200), "train", 10, 0)
    task._began = time.monotonic() - 5
    task.advance(1, **{"loss depth": 0.25}, eta="0:45")
    task.advance(1)
    told, plain = text.getvalue().splitlines()
    assert told == "  train 1/10  loss depth 0.25  eta 0:45"
    assert plain.startswith("  train 2/10  eta ") and plain.endswith(" s")
