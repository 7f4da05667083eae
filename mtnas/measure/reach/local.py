"""This machine: the device runner in a fresh Python process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.base.progress import Progress
from mtnas.device.main import SCHEMA
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import DeviceDescription
from mtnas.measure.reach.archive import runner_archive
from mtnas.measure.reach.base import Model, Reach, Record, flat, model_bytes
from mtnas.measure.reach.lacking import install_words, missing_package, what_lacks

_TIMEOUT_S = 900.0


class LocalReach:
    """A fresh process for each job."""

    def __init__(self, device: DeviceDescription, config: MeasureConfig, purpose: str, progress: Progress) -> None:
        self.device = device

    def __enter__(self) -> Reach:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, job: Mapping[str, Any], models: Mapping[str, Model]) -> Iterator[Record]:
        """The records of one job, all at the end."""
        with tempfile.TemporaryDirectory(prefix="mtnas-") as folder:
            paths = {}
            for number, (name, model) in enumerate(models.items()):
                path = model if isinstance(model, Path) else Path(folder) / f"{number}.onnx"
                if not isinstance(model, Path):
                    path.write_bytes(model_bytes(model))
                paths[name] = str(path.resolve())
            yield from run_job({**job, "models": paths})


def run_job(job: Mapping[str, Any], timeout_s: float = _TIMEOUT_S) -> list[Record]:
    """Run one job in a process of its own and return its records; raise `DeviceMissing` when it fails."""
    with tempfile.TemporaryDirectory(prefix="mtnas-") as folder:
        path, runner = Path(folder) / "job.json", Path(folder) / "runner.pyz"
        path.write_text(json.dumps({"schema": SCHEMA, **job}), encoding="utf-8")
        runner.write_bytes(runner_archive())
        # -I: neither the caller's folder nor PYTHONPATH may change what the runner imports
        command = [sys.executable, "-I", str(runner), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise failed(f"no answer within {timeout_s:g} s", "measure a smaller network, or fewer rounds") from error
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    records = [record for line in lines for record in flat(line)]
    errors = [record["text"] for record in records if record.get("event") == "error"]
    if done.returncode != 0 or errors:
        text = errors[0] if errors else f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        raise job_failure(text)
    return records


def job_failure(text: str) -> DeviceMissing:
    """The error behind a job's own words, with a cure that fits."""
    package = missing_package(text)
    if package:
        return _lacks(f"{package} is not installed", text, install_words(package))
    if lacking := what_lacks(text):
        return _lacks(lacking[0], text, lacking[1])
    return failed(text, "see `mtnas doctor`; is the file an ONNX network that this runtime reads?")


def _lacks(wrong: str, text: str, cure: str) -> DeviceMissing:
    return DeviceMissing(
        f"a machine that has what the runtime needs: {wrong}", received=text, where="device runner", cure=cure
    )


def failed(received: str, cure: str) -> DeviceMissing:
    return DeviceMissing("a measuring process that ends well", received=received, where="device runner", cure=cure)
