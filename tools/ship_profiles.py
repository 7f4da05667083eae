"""Measure devices on one network and ship their profiles into `hardware_profiles/`.

    python -m tools.ship_profiles [DEVICE ...] [--work FOLDER] [--into FOLDER] [--quick] [-s KEY=VALUE ...]

The network is the demo job's with its first weights, which latency does not depend on. Without names, every device of
this machine that has no profile yet is measured; minutes each. Interrupted, the same command goes on where it stopped:
`--work` keeps what was measured. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtnas import __version__
from mtnas.base.errors import ExitCode, MtnasError
from mtnas.base.files import content_hash, write_json, write_text
from mtnas.base.machine import fingerprint
from mtnas.base.progress import Progress, Silent
from mtnas.job.read import plain, read_job, resolved_yaml
from mtnas.job.schema import Job
from mtnas.measure.devices import is_measured, read_device
from mtnas.stages import profile, space
from mtnas.stages.context import RunContext
from mtnas.stages.preflight import preflight
from tools.ship_profile import MOST_KB, SHIPPED, ship

WORK = Path("runs") / "ship"
#: one grid of widths for every device, so that their numbers can be compared; few images, which nobody looks at
NETWORK = (
    *("space.rules=default", "space.round_to=16"),
    *(f"data.{split}=32" for split in ("train", "calibrate", "select", "report")),
)
USUAL = ("device.samples=100", "device.time_limit_s=240")
QUICK = ("device.samples=12", "device.rounds=5", "device.max_rounds=8", "device.round_ms=2")
STAGES: dict[str, Callable[[RunContext, Path], Any]] = {"space": space.run, "profile": profile.run}


def job_for(device: str, settings: Sequence[str] = ()) -> Job:
    """The demo job, measured on a device as its description says."""
    known = read_device(device)
    declared = (f"device.device={device}", f"device.runtime={known.runtime}", f"device.threads={known.threads}")
    job = read_job(None, [*NETWORK, *declared, *settings])
    dialect = known.dialect if known.precision == "int8" else job.quantize.dialect
    return replace(job, quantize=replace(job.quantize, dialect=dialect))


def measured(job: Job, folder: Path, progress: Progress | None = None) -> Path:
    """The folder of a run that has finished its profile; nothing is measured twice."""
    preflight(job, ("space", "profile"))
    context = RunContext(job, folder, progress)
    with context.run.locked():
        write_text(folder / "job.resolved.yaml", resolved_yaml(job))
        write_json(folder / "machine.json", {"schema": "machine/1", "mtnas": __version__, **fingerprint()})
        for name, stage in STAGES.items():
            inputs = content_hash({"job": plain(job), "mtnas": __version__})
            if not context.run.finished(name, inputs):
                started = time.monotonic()
                result = stage(context, context.run.begin(name, inputs))
                context.run.finish(name, inputs, result, time.monotonic() - started)
    return folder


def of_this_machine(into: Path) -> list[str]:
    """Names of the local devices that are described and not measured."""
    folders = sorted(path.parent for path in into.glob("local-*/device.yaml"))
    return [folder.name for folder in folders if not is_measured(folder)]


def told(target: Path) -> str:
    """One line about a shipped profile."""
    from mtnas.measure.profile import load_profile

    found = load_profile(target)
    error = found.predictor.held_out.to_json()
    numbers = ", ".join(f"{key} {value:.3g}" for key, value in error.items() if isinstance(value, float))
    size_kb = sum(path.stat().st_size for path in target.iterdir()) / 1000
    ends = [found.extreme(why).record.p50.value for why in ("smallest", "largest")]
    return (
        f"{target.name}: {len(found.points)} networks, {ends[0]:.3f} to {ends[1]:.3f} ms, "
        f"resolution {found.self_test.resolution_percent:.1f} %, {numbers}; {size_kb:.0f} KB"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ship_profiles", description=__doc__)
    parser.add_argument("devices", nargs="*", help="names of folders in hardware_profiles")
    parser.add_argument("--work", type=Path, default=WORK, help="the folder that keeps what was measured")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="the folder that holds the devices")
    parser.add_argument("--quick", action="store_true", help="few networks and rounds: to see that it works")
    parser.add_argument("-s", "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--most-kb", type=float, default=MOST_KB, help="largest size of measurements.jsonl")
    asked = parser.parse_args(arguments)
    settings = [*(QUICK if asked.quick else USUAL), *asked.settings]
    code = ExitCode.DONE
    for device in asked.devices or of_this_machine(asked.into):
        try:
            started = time.monotonic()
            run = measured(job_for(device, settings), asked.work / device, Silent())
            target = ship(run, device, asked.into, asked.most_kb)
            print(f"{told(target)}; {time.monotonic() - started:.0f} s", flush=True)
        except MtnasError as error:
            print(f"{device}: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main())
