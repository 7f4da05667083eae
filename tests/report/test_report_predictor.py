"""What the report says of a predictor: what was compared, learned and left, and what speaks against its numbers."""

from __future__ import annotations

import re
from pathlib import Path

from report_run import FakeRun

from mtnas.report.gather import gather
from mtnas.report.sections import predictor, profile


def rendered(folder: Path) -> str:
    return profile.render(gather(FakeRun(folder).upto("profile")))


def rows(text: str) -> list[str]:
    """Table rows as plain text, cells separated by |."""
    found = re.findall(r"<tr>(.*?)</tr>", text)
    return [
        "|".join(re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row)) for row in found
    ]


def test_regressors_stand_by_error_and_the_chosen_one_is_marked(tmp_path: Path) -> None:
    shown = rows(rendered(tmp_path))
    first = shown.index("ridge 0.01|1.90\u00a0%|chosen")
    assert shown[first + 1] == "non-negative 1e-06|2.20\u00a0%|"
    assert shown.index("step 16|2.20\u00a0%|chosen") < shown.index("step 8|3.10\u00a0%|")


def test_learned_steps_and_the_reason_to_stop(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert "conv3x3|16" in rows(text) and "conv1x1|evenly" in rows(text)
    assert "Measuring stopped: good enough. 40 more networks would take 0.31 points off." in text


def test_other_costs_have_their_own_errors(tmp_path: Path) -> None:
    assert "peak memory|ridge 0.1|4|1.9\u00a0%|1.4\u00a0%|0.994|trusted" in rows(rendered(tmp_path))


def test_outliers_and_doubts_are_counted(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert "12 of 4,800 (0.25\u00a0%), 9 of them interrupted" in text
    assert "speaks against 2 of 40 measured networks" in text
    assert "load 3.1 on 2 &lt;cores&gt;|2" in rows(text)


def test_a_profile_without_these_is_shown_without_them() -> None:
    assert predictor.render({"predictor": {"kind": "ridge"}}) == ""
    assert profile.untrusted({"untrusted": {"networks": 0, "reasons": []}}) is None
