"""Copy the profile that a run has measured into `hardware_profiles/<device>/`, with its provenance.

    python -m tools.ship_profile RUN_FOLDER DEVICE

Every run of every network is copied; where that is more than `--most-kb`, only the median of each round is kept, and
`provenance.json` says so. Intervals, p95 and the predictor are those of the measurement either way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtnas.base.errors import JobError, UserError
from mtnas.base.files import file_hash, read_json, write_bytes, write_json
from mtnas.job.read import plain, read_job
from mtnas.measure.devices import read_device
from mtnas.measure.profile import Profile, ProfilePoint, load_profile
from mtnas.measure.profile_files import JOURNAL, PREDICTOR
from mtnas.stages.folder import RunFolder

SHIPPED = Path("hardware_profiles")
MOST_KB = 1000
PROVENANCE = "provenance.json"


def ship(run: Path, device: str, into: Path, most_kb: float = MOST_KB) -> Path:
    """Write the three files of a profile and `provenance.json`; returns the folder.

    Raises:
        JobError: the run was measured on another device, or the shipped description differs from the run's.
    """
    target, profile = into / device, load_profile(RunFolder(run).stage("profile") / "device")
    declared = read_device(str(target))
    if declared != profile.device:
        raise JobError(
            f"a profile of the device that {target / 'device.yaml'} describes",
            received=f"one of {profile.device.name!r}, described otherwise",
            where=str(run),
            cure="ship it under its own name, or measure again with this description",
        )
    with tempfile.TemporaryDirectory(prefix="mtnas-ship-") as scratch:
        kept, files = "every run", saved(profile, Path(scratch) / "whole")
        if len(files[JOURNAL]) > 1000 * most_kb:
            kept, files = "the median of each round", saved(thinned(profile), Path(scratch) / "thin")
    if len(files[JOURNAL]) > 1000 * most_kb:
        raise JobError(
            f"at most {most_kb:g} KB of measurements",
            received=f"{len(files[JOURNAL]) / 1000:.0f} KB, with the medians of rounds alone",
            where=str(run),
            cure="measure fewer networks (device.samples)",
        )
    for name, data in files.items():
        write_bytes(target / name, data)
    write_json(target / PROVENANCE, provenance(run, profile, kept))
    return target


def saved(profile: Profile, folder: Path) -> dict[str, bytes]:
    """The measurements and the predictor as `Profile.save` writes them."""
    profile.save(folder)
    return {name: (folder / name).read_bytes() for name in (JOURNAL, PREDICTOR)}


def thinned(profile: Profile) -> Profile:
    """The same profile with one run a round: the median of those that nothing interrupted."""
    return replace(profile, points=tuple(thinned_point(point) for point in profile.points))


def thinned_point(point: ProfilePoint) -> ProfilePoint:
    medians_R = point.record.runs.medians_R
    runs_ms_RN = tuple((round(float(median), 6),) for median in medians_R)
    record = replace(point.record, runs_ms_RN=runs_ms_RN, interrupted=tuple(() for _ in runs_ms_RN))
    return replace(point, record=record)


def provenance(run: Path, profile: Profile, kept: str) -> dict[str, Any]:
    """Which network, at which input size, on which machine, with which versions, and when."""
    folder, job = RunFolder(run), read_job(run / "job.resolved.yaml")
    machine = read_json(run / "machine.json", schema="machine/1")
    space = folder.result("space", "space.json")
    return {
        "schema": "provenance/1",
        "job": job.name,
        "created": profile.created,
        "input": [1, 3, job.data.height, job.data.width],
        "tasks": [task.name for task in job.tasks],
        "model": plain(job.model),
        "space": plain(job.space),
        "largest": space["largest"],
        "smallest": space["smallest"],
        "graph_sha256": file_hash(folder.stage("space") / "graph" / "plan.json"),
        "networks": len(profile.points),
        "runs": kept,
        "settings": plain(job.device),
        "machine": {key: machine[key] for key in ("cpu", "memory_mb", "governor", "system")},
        "versions": {"mtnas": machine["mtnas"], **machine["versions"]},
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ship_profile", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that has finished its profile")
    parser.add_argument("device", help="name of a folder in hardware_profiles")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="the folder that holds the devices")
    parser.add_argument("--most-kb", type=float, default=MOST_KB, help="largest size of measurements.jsonl")
    asked = parser.parse_args(arguments)
    try:
        target = ship(asked.run, asked.device, asked.into, asked.most_kb)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1000:.0f} KB" for path in sorted(target.iterdir()))
    print(f"{target}: {sizes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
