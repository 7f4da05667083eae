"""Stage 10: the report, from result files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas.base.files import file_hash
from mtnas.stages.context import RunContext


def run(context: RunContext, folder: Path) -> dict[str, Any]:
    """Write `report/index.html`."""
    from mtnas.report.page import write_report

    return {"page": file_hash(write_report(context.run.path))}
