"""Widths that `pick` and `configure` tell are the channels of the space's summary, also where a unit is several."""

from __future__ import annotations

from pathlib import Path

import zoo

from mtnas.api.given import given_context
from mtnas.base.files import write_json
from mtnas.elastic.model import make_elastic
from mtnas.job.schema import Job
from mtnas.search.objectives import Objective
from mtnas.stages.folder import RunFolder
from mtnas.stages.network_text import arch_lines, told
from mtnas.stages.space import group_rows


def test_channels_are_those_of_the_summary(tmp_path: Path) -> None:
    elastic = make_elastic(zoo.GroupedNet().eval(), zoo.image(), round_to=4, prove=False)
    run = RunFolder(tmp_path)
    rows = group_rows(given_context(Job(), run, elastic))
    assert any(row["channels_per_unit"] > 1 and len(row["options"]) > 1 for row in rows)
    write_json(run.stage("space") / "space.json", {"groups": rows})
    arch, summary = elastic.space.smallest, {row.name: row for row in elastic.summary().groups}
    record = {"arch": arch.to_json(), **told(run, arch, [Objective("depth", "m", False)])}
    assert record["channels"] == {
        name: {"kept": row.widths[0], "of": row.channels} for name, row in summary.items() if row.widths
    }
    (line, _) = arch_lines(record)
    assert all(f"{name} {row['kept']} of {row['of']}" in line for name, row in record["channels"].items())
    other = {**record, "arch": {**record["arch"], "stage/depth": 1, "input/size": "32x32"}}
    assert "  others: stage/depth 1, input/size 32x32" in arch_lines(other)


def test_a_run_of_an_earlier_version_counts_units(tmp_path: Path) -> None:
    elastic = make_elastic(zoo.GroupedNet().eval(), zoo.image(), round_to=4, prove=False)
    run, groups = RunFolder(tmp_path), [{"name": group.name, "size": group.size} for group in elastic.groups]
    write_json(run.stage("space") / "space.json", {"groups": groups})
    arch, sizes = elastic.space.largest, {group["name"]: group["size"] for group in groups}
    found = told(run, arch, [])["channels"]
    assert found == {name: {"kept": sizes[name], "of": sizes[name]} for name in arch.to_json()}
