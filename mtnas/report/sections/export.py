"""Export: the delivered file, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Sequence

from mtnas.report.gather import Results
from mtnas.report.html import Html, badge, facts, join, note, table, tag
from mtnas.report.words import NARROW, number


def render(results: Results) -> Html:
    """Name, hash, input, outputs, companions."""
    manifest = results["export"]
    if not manifest:
        return Html("")
    given = manifest.get("input") or {}
    size = manifest.get("bytes")
    pairs = [
        ("file", manifest.get("file", "model.onnx")),
        ("size", f"{number(size / 1e6)} MB" if size else None),
        ("SHA-256", tag("code", None, manifest.get("sha256", ""))),
        ("precision", manifest.get("precision")),
        ("operator set", manifest.get("opset")),
        ("input", f"{given.get('name', '?')} {_shape(given.get('shape') or ())} {given.get('dtype', '')}"),
        (
            "pixels",
            f"{given.get('colours', 'RGB')}, (pixel / 255 − {_list(given.get('mean'))}) / {_list(given.get('std'))}",
        ),
    ]
    rows = [
        (
            output.get("task", ""),
            output.get("type", ""),
            _shape(output.get("shape") or ()),
            output.get("activation", ""),
            output.get("unit", ""),
            ", ".join(output.get("class_names") or ()),
        )
        for output in manifest.get("outputs") or ()
    ]
    head = ("output", "task", "shape", "activation to apply", "unit", "classes")
    companions = [
        (item.get("file", ""), item.get("kind", ""), _executed(item.get("executed")))
        for item in manifest.get("companions") or ()
    ]
    more = table("Files for other runtimes", ("file", "kind", ""), companions, 9) if companions else None
    parts = (facts(pairs), table("Outputs of the delivered file", head, rows, 9), more)
    return join(*parts, note("No TensorRT engine was built here: not executed.") if not companions else None)


def _executed(executed: object) -> Html:
    return badge("good", "executed here") if executed else badge("warn", "not executed")


def _shape(shape: Sequence[object]) -> str:
    return f"{NARROW}×{NARROW}".join(str(size) for size in shape)


def _list(values: Sequence[float] | None) -> str:
    return f"({', '.join(number(value, 3) for value in values)})" if values else "?"
