"""The tables of docs/networks.md are what the networks are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtnas.encoders.table import ENCODERS
from mtnas.heads.table import HEADS, JOINT_HEADS
from tools import networks

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert networks.main(["--check"]) == 0, "run python -m tools.networks"
    text = networks.PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*ENCODERS, *HEADS, *JOINT_HEADS))


def test_a_stale_table_is_found_and_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- counted:encoders -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(networks, "PAGE", page)
    assert networks.main(["--check"]) == 1
    assert networks.main([]) == 0 and networks.main(["--check"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| `resnet18` | 64 | [2, 2, 2, 2] | 64, 128, 256, 512 | 11,176,512 | 1,814 |" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
