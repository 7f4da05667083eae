"""What a command has to say when it ends: read from the result files only."""

from __future__ import annotations

from typing import Any

from mtnas.stages.certify import certificate_text
from mtnas.stages.folder import FOLDERS, RunFolder

_FILES = {
    "space": "space.json",
    "train": "train.json",
    "profile": "profile.json",
    "search": "search.json",
    "prune": "prune.json",
    "quantize": "quantize.json",
    "export": "manifest.json",
    "verify": "verify.json",
    "certify": "certificate.json",
    "references": "references.json",
}


def outcome(run: RunFolder, stage: str) -> dict[str, Any]:
    """The result of a run that went up to `stage`; `met` tells whether the budget was kept, when that is known."""
    last = "certify" if stage == "report" else stage
    result: dict[str, Any] = {"run": str(run.path), "stage": stage, "result": run.result(last, _FILES[last])}
    if last in {"verify", "certify"}:
        verify = run.result("verify", "verify.json")
        result |= {
            "passed": bool(verify["passed"]),
            "table": verify["table"],
            "heads": verify["heads"],
            "delivered": _delivered(run),
            "model": str(run.stage("export") / "model.onnx"),
        }
    if last == "certify":
        result["met"] = bool(result["result"]["met"] and verify["passed"])
    if stage == "report":
        result["references"] = run.result("references", _FILES["references"])
        result["report"] = str(run.stage("report") / "index.html")
    return result


def _delivered(run: RunFolder) -> str:
    """The row of the table whose file is delivered."""
    if run.result("quantize", _FILES["quantize"])["delivered"] == "int8":
        return "int8"
    return str(run.result("prune", _FILES["prune"])["kept"])


def outcome_text(result: dict[str, Any]) -> str:
    """The same for people."""
    if "table" not in result:
        return f"{result['stage']}: done, see {result['run']}/{FOLDERS[result['stage']]}"
    lines = ["", *_table(result["table"], result.get("delivered", "")), *_deltas(result.get("references") or {}), ""]
    if "met" in result:
        lines += certificate_text(result["result"])
    lines += [
        f"  head {head['task']}: {'ok' if head['ok'] else 'FAILED'}" for head in result["heads"] if not head["ok"]
    ]
    lines.append(f"model:  {result['model']}")
    if "report" in result:
        lines.append(f"report: {result['report']}")
    return "\n".join(lines)


def _deltas(references: dict[str, Any]) -> list[str]:
    """One line for each network: the headline delta, its convention and what it is against."""
    headline = next(iter(references.get("columns") or {}), "")
    if not headline:
        return []
    known = {name: values[headline] for name, values in references["deltas"].items() if values[headline] is not None}
    shown = ", ".join(f"{name} {value:+.2f}" for name, value in known.items())
    why = references["undefined"].get(headline, "")
    return [f"{references['columns'][headline]} against {references['against']}: {shown or why}"]


def _table(rows: list[dict[str, Any]], delivered: str) -> list[str]:
    """Networks as rows; each task's primary metric with its unit and direction, then costs."""
    cells = rows[0]["primary"]
    heads = [" ".join(filter(None, (task, cell["metric"], cell["unit"], _sign(cell)))) for task, cell in cells.items()]
    header = ["network", *heads, "MMACs", "MB", "ms p50", "ms p95"]
    body = [
        [
            row["name"] + (" *" if row["name"] == delivered else ""),
            *(f"{cell['value']:.4g}" for cell in row["primary"].values()),
            f"{row['macs'] / 1e6:.1f}",
            f"{row['size_mb']:.2f}",
            f"{row['latency_ms_p50']['value']:.3f}",
            f"{row['latency_ms_p95']['value']:.3f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[k]) for line in [header, *body]) for k in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *body]]
    return [*lines, "* delivered; (+) higher, (-) lower is better; metrics of the report split, latency of one image"]


def _sign(cell: dict[str, Any]) -> str:
    """Direction of a metric; runs of earlier versions do not tell it."""
    return {True: "(+)", False: "(-)"}.get(cell.get("higher_is_better"), "")  # type: ignore[arg-type]
