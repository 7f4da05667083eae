"""`mtnas probe`: the width steps of a device, as words, as JSON and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtnas.base.files import write_json, write_text
from mtnas.base.progress import Progress
from mtnas.stages.steps import STAIRS

PICTURE = "stairs.svg"


def probe_device(device: str, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Probe every kind of layer; with a folder, leave `stairs.json` and `stairs.svg` there."""
    from mtnas.api.where import width_steps
    from mtnas.measure.probe_networks import KINDS
    from mtnas.report.stairs_svg import stairs_svg

    record = width_steps(device=device, kinds=tuple(KINDS), progress=progress).to_json()
    record = {**record, "device": device}
    if out is not None:
        environment = record["environment"]
        title = f"{device}: {environment['runtime']} {environment['runtime_version']}, {environment['cpu']}"
        write_json(out / STAIRS, record)
        write_text(out / PICTURE, stairs_svg(record, title))
    return record


def probe_text(record: dict[str, Any], out: Path | None) -> str:
    """The same for people."""
    lines = [f"width steps of {record['device']}, measured in {record['seconds']:.0f} s"]
    for precision, step in record["steps"].items():
        words = "in doubt, the curves are too noisy" if step is None else f"multiples of {step}"
        lines.append(f"  {precision:<9}{words}")
    for curve in record["curves"]:
        stairs = curve["stairs"]
        rise = stairs["rise_percent"]
        steep = f"+{rise:.0f} % at edges, {stairs['slope_percent']:+.0f} % elsewhere" if rise is not None else "even"
        lines.append(
            f"    {curve['kind']:<13}{curve['precision']:<9}step {stairs['step']:<3} {stairs['doubt'] or steep}"
        )
    if out is not None:
        lines.append(f"wrote {out / STAIRS} and {out / PICTURE}")
    return "\n".join(lines)
