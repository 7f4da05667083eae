"""Tables of the README and of docs/, made from `docs/results/*.json` and from nothing else.

`python -m tools.tables` rewrites what stands between `<!-- table:NAME -->` or `<!-- claims:NAME -->` and
`<!-- end -->`; `--check` changes nothing and exits with 1 when a table is not what its file says.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtnas.base.errors import UserError
from mtnas.base.files import read_json, write_text
from tools.bench.record import SCHEMA, Claim, Column
from tools.bench.table import EXPECTED

NOT_YET = "Not measured yet."
_MARK = re.compile(r"(<!-- (table|claims):(\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A pipe table."""
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def rows_table(record: Mapping[str, Any]) -> str:
    """The rows of a result in the columns it names."""
    columns = [Column(**column) for column in record["columns"]]
    table = markdown([column.title for column in columns], [[c.show(row) for c in columns] for row in record["rows"]])
    return f"{table}\n\n{caption(record)}"


def claims_table(record: Mapping[str, Any]) -> str:
    """Every claim with its target, value, interval and verdict; unmet ones too."""
    lines = []
    for raw in record["claims"]:
        claim = Claim(**raw)
        value = "–" if claim.value is None else f"{claim.value:.3g}"
        low, high = claim.interval or (None, None)
        interval = "–" if low is None else f"{low:.3g} … {high:.3g}"
        lines.append([claim.claim, claim.target, value, interval, str(claim.count), f"**{claim.verdict}**"])
    return markdown(["claim", "target", "mean", "95 % interval", "n", "verdict"], lines)


def caption(record: Mapping[str, Any]) -> str:
    """Where the numbers come from, in one line."""
    cpu, versions = record["machine"]["cpu"], record["versions"]
    tools = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime") if name in versions)
    benchmark = record.get("benchmark", record["name"])
    named = f" --run … --name {record['name']}" if benchmark != record["name"] else ""
    command = f"`python -m tools.bench {benchmark}{named}{' --quick' if record['quick'] else ''}`"
    seeds = ", ".join(str(seed) for seed in record["seeds"])
    note = f" {record['note']}" if record.get("note") else ""
    return f"{command} on {cpu['model']}, {cpu['cores']} cores; {tools}; seeds {seeds}.{note}"


def render(text: str, results: Path) -> str:
    """A page with all its marked tables made anew; where an expected result is missing, it says so or stays empty."""

    def replaced(match: re.Match[str]) -> str:
        if match[3] in EXPECTED and not (results / f"{match[3]}.json").exists():
            return match[0] if not match[4].strip() else f"{match[1]}{NOT_YET}\n{match[5]}"
        record = read_json(results / f"{match[3]}.json", schema=SCHEMA)
        body = rows_table(record) if match[2] == "table" else claims_table(record)
        return f"{match[1]}{body}\n{match[5]}"

    return _MARK.sub(replaced, text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a table is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout")
    options = parser.parse_args(arguments)
    pages = [
        page for page in [options.root / "README.md", *sorted((options.root / "docs").glob("*.md"))] if page.exists()
    ]
    stale = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        try:
            made = render(text, options.root / "docs" / "results")
        except UserError as error:
            print(f"{page}: {error}", file=sys.stderr)
            return int(error.exit_code)
        if made != text:
            stale.append(page)
            if not options.check:
                write_text(page, made)
    for page in stale:
        print(f"{'out of date' if options.check else 'rewritten'}: {page}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
