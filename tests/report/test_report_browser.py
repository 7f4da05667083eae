"""The page in a real browser: every figure is drawn, nothing is complained about, nothing sticks out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_run import FakeRun

from mtnas.report.page import write_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=20000",
)
#: elements that stick out of a page of WIDTH pixels, unless they may scroll by themselves
PROBE = """<script>setTimeout(() => {
  const over = [...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, nav, pre, svg, script")
    && e.getBoundingClientRect().right > WIDTH + 1);
  document.documentElement.dataset.over = over.slice(0, 5).map((e) => e.tagName + "." + e.className).join(" ");
}, 800)</script></body>"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium or chrome is installed")


def opened(path: Path, width: int) -> tuple[str, str]:
    """The page's first tag after drawing, and what the browser wrote about it."""
    text = path.read_text(encoding="utf-8").replace("</body>", PROBE.replace("WIDTH", str(width)))
    text = text.replace('<html lang="en">', f'<html lang="en" style="width:{width}px">', 1)
    path.write_text(text, encoding="utf-8")
    flags = (
        *FLAGS,
        f"--user-data-dir={path.parent / 'browser'}",
        f"--window-size={max(width, 500)},1000",
        "--dump-dom",
    )
    done = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, check=False, timeout=120)
    first = re.search(r"<html[^>]*>", done.stdout)
    assert first, done.stderr[-2000:]
    return first.group(), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize(("width", "prefix"), [(1200, ""), (420, ""), (1200, "</script><b>&\"'")])
def test_the_page_is_drawn_without_a_complaint(tmp_path: Path, width: int, prefix: str) -> None:
    path = write_report(FakeRun(tmp_path, prefix=prefix).upto("certify"))
    figures = path.read_text(encoding="utf-8").count('class="plot"')
    first, complaints = opened(path, width)
    assert complaints == ""
    assert f'data-drawn="{figures}"' in first
    assert 'data-over=""' in first
    assert figures >= 11
