"""This machine: the device runner in a fresh Python process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtnas.base.errors import DeviceMissing
from mtnas.device.main import SCHEMA
from mtnas.measure.reach.archive import runner_archive

_TIMEOUT_S = 900.0


def run_job(job: Mapping[str, Any], timeout_s: float = _TIMEOUT_S) -> list[dict[str, Any]]:
    """Run one job in a process of its own and return its records; raise `DeviceMissing` when it fails."""
    with tempfile.TemporaryDirectory(prefix="mtnas-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps({"schema": SCHEMA, **job}), encoding="utf-8")
        runner = Path(folder) / "runner.pyz"
        runner.write_bytes(runner_archive())
        # -I: neither the caller's folder nor PYTHONPATH may change what the runner imports
        command = [sys.executable, "-I", str(runner), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise _failed(f"no answer within {timeout_s:g} s", "measure a smaller network, or fewer rounds") from error
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [record["text"] for record in records if record.get("event") == "error"]
    if done.returncode != 0 or errors:
        text = errors[0] if errors else f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
        raise _failed(text, "see `mtnas doctor`; is the file an ONNX network that this runtime reads?")
    return records


def events(records: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The records of one kind, by the network's name."""
    return {record["name"]: record for record in records if record.get("event") == kind}


def _failed(received: str, cure: str) -> DeviceMissing:
    return DeviceMissing("a measuring process that ends well", received=received, where="device runner", cure=cure)
