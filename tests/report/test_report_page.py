"""The page from result files: complete, tolerant of what is missing or damaged, self-contained, and escaped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_run import STAGES, FakeRun

from mtnas.base.errors import CheckpointError
from mtnas.report.gather import gather
from mtnas.report.page import SECTIONS, page, write_report
from mtnas.report.sections.train import score_figure

EVIL = "</script><script>alert(1)</script><b>&\"'"


def body_of(text: str) -> str:
    """The page without scripts and style."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)


def traces_of(text: str) -> list[dict[str, Any]]:
    """The lines of one figure."""
    found = re.search(r'<script type="application/json">(.*?)</script>', text, flags=re.DOTALL)
    assert found
    return list(json.loads(found[1])["data"])


class Balance(HTMLParser):
    """Checks that every element is closed where it should be, and collects ids and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images_without_words = 0

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if name not in {"img", "br", "meta", "hr"}:
            self.open.append(name)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.addresses += [value or "" for key, value in attrs if key in {"src", "href", "srcset", "action"}]
        self.images_without_words += name == "img" and not given.get("alt")

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def parsed(text: str) -> Balance:
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    return parser


@pytest.mark.parametrize("last", STAGES)
def test_a_run_is_shown_however_far_it_has_come(tmp_path: Path, last: str) -> None:
    text = page(gather(FakeRun(tmp_path).upto(last)))
    body = body_of(text)
    done = STAGES.index(last)
    assert body.count("Not run.") == len(SECTIONS) - done
    assert [key for key in parsed(text).ids if key] == ["summary", *(s.key for s in SECTIONS), "provenance"]
    assert ("Not certified yet" in body) is (last != "certify")


def test_the_summary_says_what_was_won(tmp_path: Path) -> None:
    body = body_of(page(gather(FakeRun(tmp_path).upto("certify"))))
    assert "Budget met" in body
    assert "3.4× faster than full size" in body
    for text in (
        "0.900\u00a0ms",
        "3.100\u00a0ms",
        "1.395\u00a0ms",
        "every floor kept",
        "generated scenes",
        "not claimed",
    ):
        assert text in body


def test_the_cards_compare_latencies_of_the_same_rounds(tmp_path: Path) -> None:
    """The certificate was measured at another moment: its number is held against the limit, not the full network."""
    folder = FakeRun(tmp_path).upto("certify")
    path = folder / "8-verify/certificate.json"
    record = json.loads(path.read_text())
    record["limits"][0]["measured"]["value"] = 1.2
    path.write_text(json.dumps(record))
    body = body_of(page(gather(folder)))
    assert "1.200\u00a0ms" in body and "3.4× faster" in body and "3.44× less" in body
    assert "2.58× less" not in body


def test_widths_are_told_in_channels(tmp_path: Path) -> None:
    """A unit may be several; runs of earlier versions do not say so, and are shown as they are."""
    folder = FakeRun(tmp_path).upto("certify")
    path = folder / "1-space/space.json"
    record = json.loads(path.read_text())
    name, size, options = "decoder.tied", 6, [2, 4, 6]
    record["groups"].append({"name": name, "size": size, "options": options, "owners": [], "channels_per_unit": 4})
    path.write_text(json.dumps(record))
    path = folder / "5-prune/prune.json"
    prune = json.loads(path.read_text())
    prune["widths"][name] = {"full": 6, "chosen": 4, "pruned": 3}
    prune["steps"][0] |= {"group": name, "removed": [1, 5]}
    path.write_text(json.dumps(prune))
    text = page(gather(folder))
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in body_of(text).split("</tr>") if name in row]
    assert [cell[-2:] for cell in cells] == [["8 · 16 · 24", "24"], ["12", "50\u00a0%"]]
    assert f"8 channels of {name}" in text


def test_it_says_where_there_is_something_to_save(tmp_path: Path) -> None:
    """Shared part and decoders together, or the whole of a network of one task; nothing in runs that do not tell."""
    folder = FakeRun(tmp_path).upto("space")
    assert "shared part 50% · decoders together 38%<" in body_of(page(gather(folder)))
    path = folder / "1-space/space.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "savings": {"whole network": {"macs": 0.7, "params": 0.6}}}))
    assert "whole network 70%<" in body_of(page(gather(folder)))
    path.write_text(json.dumps({name: value for name, value in record.items() if name != "savings"}))
    assert "saves at most" not in body_of(page(gather(folder)))


def test_what_is_missed_is_not_hidden(tmp_path: Path) -> None:
    body = body_of(page(gather(FakeRun(tmp_path, met=False).upto("certify"))))
    assert "Budget missed, verification failed" in body
    assert "Budget met" not in body


def test_floors_are_judged_on_the_data_that_is_shown(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.upto("certify")
    assert body_of(page(gather(tmp_path))).count("kept</div>") == 4
    search = dict(gather(tmp_path)["search"])
    search["floors"] = {"depth": {"bound": 0.1, "metric": "abs_err", "text": "-1%"}}
    run.write("4-search/search.json", search)
    body = body_of(page(gather(tmp_path)))
    assert body.count("missed</div>") == 1
    assert "kept</div>" not in body


def test_a_doubted_predictor_and_a_wrong_head_are_named(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, met=False)
    run.upto("certify")
    profile = dict(gather(tmp_path)["profile"])
    profile["predictor"] = {**profile["predictor"], "trustworthy": False, "doubt": "rank correlation 0.3"}
    run.write("3-profile/profile.json", profile)
    body = body_of(page(gather(tmp_path)))
    assert "rank correlation 0.3: candidates were measured instead" in body
    assert body.count("largest error above the tolerance") == 4


def test_a_failed_run_shows_its_cure(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.upto("train")
    run.write("FAILED.json", {"schema": "failed/1", "stage": "profile", "message": "no <device>", "cure": "plug it in"})
    body = body_of(page(gather(tmp_path)))
    assert "The run stopped in profile" in body
    assert "no &lt;device&gt;" in body
    assert "plug it in" in body


def test_scores_seen_during_training_are_shares_of_the_last(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.upto("train")
    results = gather(tmp_path)
    text = str(score_figure(results, results.lines("curves")))
    assert "Scores during training" in text
    traces = [trace for trace in traces_of(text) if "largest" in trace["name"]]
    assert len(traces) == len(run.tasks) and all(trace["y"][-1] == 100 for trace in traces)
    smallest = [trace for trace in traces_of(text) if "smallest" in trace["name"]]
    assert all(trace["y"][-1] == pytest.approx(75) and len(trace["x"]) == 6 for trace in smallest)


def test_scores_of_one_look_are_no_curve(tmp_path: Path) -> None:
    FakeRun(tmp_path).upto("train")
    results = gather(tmp_path)
    looks = [line for line in results.lines("curves") if "scores" in line][:1]
    assert str(score_figure(results, looks)) == ""


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    FakeRun(tmp_path).upto("search")
    (tmp_path / "4-search" / "search.json").write_text('{"schema": "sea', encoding="utf-8")
    (tmp_path / "2-train" / "curves.jsonl").write_text('{"a": \n{"b": 1}\n', encoding="utf-8")
    body = body_of(page(gather(tmp_path)))
    assert "4-search/search.json" in body
    assert "2-train/curves.jsonl" in body
    assert "Spearman" in body


def test_an_empty_folder_is_a_page_and_no_folder_is_an_error(tmp_path: Path) -> None:
    assert "Not run." in page(gather(tmp_path))
    with pytest.raises(CheckpointError):
        write_report(tmp_path / "absent")


def test_every_name_is_escaped(tmp_path: Path) -> None:
    text = page(gather(FakeRun(tmp_path, prefix=EVIL).upto("certify")))
    parsed(text)
    assert "<script>alert" not in text
    assert EVIL not in text
    scripts = re.findall(r"<script\b[^>]*>", text)
    assert set(scripts) == {"<script>", '<script type="application/json">'}
    assert scripts.count("<script>") == 2


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    path = write_report(FakeRun(tmp_path).upto("certify"))
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report" / "index.html"
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed(text).addresses)
    assert not re.search(r"@import|url\(", re.search(r"<style>.*?</style>", text, re.DOTALL).group())  # type: ignore[union-attr]
    assert text.count("plotly.js v") <= 2
    assert len(text) < 8_000_000


def test_without_figures_there_is_no_script(tmp_path: Path) -> None:
    assert len(page(gather(FakeRun(tmp_path).upto("start")))) < 40_000


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = FakeRun(tmp_path).upto("certify")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_pictures_have_words_and_stay_inside_the_run(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "run")
    run.upto("certify")
    (tmp_path / "outside.png").write_bytes(b"secret")
    text = page(gather(run.folder))
    assert parsed(text).images_without_words == 0
    assert body_of(text).count("data:image/png") == 4 * 3 * 4
    record = gather(run.folder)["verify"]
    outside = {
        **record,
        "pictures": [{"index": 1, "image": "../../outside.png", "tasks": {"depth": {"truth": "no.png"}}}],
    }
    run.write("8-verify/verify.json", outside)
    assert "data:image/png" not in body_of(page(gather(run.folder)))


def test_every_float_node_has_its_reason_and_every_frozen_group(tmp_path: Path) -> None:
    body = body_of(page(gather(FakeRun(tmp_path).upto("certify"))))
    assert body.count("up-sampling stays in float by setting") == 4
    assert "is output &#x27;depth&#x27;" in body
    assert "not executed" in body
    assert "Kendall" not in body
    assert "not measured in this run" in body


def test_the_report_knows_no_torch(tmp_path: Path) -> None:
    run = FakeRun(tmp_path).upto("certify")
    code = (
        "import sys, pathlib\n"
        "from mtnas.report.page import write_report\n"
        f"write_report(pathlib.Path({str(run)!r}))\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
