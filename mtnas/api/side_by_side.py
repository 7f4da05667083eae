"""`mtnas.measure`: ONNX files side by side on a device, and whether any is slower than the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtnas.api.given import device_config
from mtnas.base.errors import CheckpointError, JobError
from mtnas.base.files import file_hash
from mtnas.base.progress import Progress
from mtnas.base.quantity import Counted, Measured
from mtnas.measure import protocol
from mtnas.measure.config import MeasureConfig
from mtnas.measure.devices import matching_device
from mtnas.measure.memory import peak_memory
from mtnas.measure.record import Environment, LatencyRecord
from mtnas.stages.gate import Gate, gated

HEAD = ("network", "ms p50", "p95", "p99", "memory MB", "size MB", "ratio", "against the first")


@dataclass(frozen=True)
class FileRow:
    """One file of the table.

    Args:
        name: as given.
        sha256: of the file.
        record: its latencies, all files interleaved.
        memory: peak memory that it adds to a fresh process; None when not asked for.
        size: of the file.
        gate: against the first file; None for the first itself.
    """

    name: str
    sha256: str
    record: LatencyRecord
    memory: Measured | None
    size: Counted
    gate: Gate | None

    def to_json(self) -> dict[str, Any]:
        record = self.record
        percentiles = {name: getattr(record, name, None) for name in ("p50", "p95", "p99")}
        return {
            "name": self.name,
            "sha256": self.sha256,
            "latency_ms": {name: found.to_json() for name, found in percentiles.items() if found},
            "memory_mb": self.memory.to_json() if self.memory else None,
            "size_mb": self.size.to_json(),
            "stable": record.stable,
            "note": record.note,
            "gate": self.gate.to_json() if self.gate else None,
        }

    def cells(self) -> list[str]:
        """The row for people."""
        percentiles = (getattr(self.record, name, None) for name in ("p50", "p95", "p99"))
        ratio = self.gate.measured if self.gate else None
        return [
            self.name,
            *(f"{found.value:.4f}" if found else "-" for found in percentiles),
            f"{self.memory.value:.2f}" if self.memory else "-",
            f"{self.size.value:.3f}",
            f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else "-",
            self.gate.verdict if self.gate else "-",
        ]


@dataclass(frozen=True)
class SideBySide:
    """Files measured in the same rounds; ratios and verdicts are against the first."""

    rows: tuple[FileRow, ...]
    device: str
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "side-by-side/1",
            "device": self.device,
            "environment": self.environment.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }

    def __str__(self) -> str:
        names = _short([row.name for row in self.rows])
        lines = [list(HEAD), *([name, *row.cells()[1:]] for name, row in zip(names, self.rows))]
        widths = [max(len(line[k]) for line in lines) for k in range(len(HEAD))]
        told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        notes = [f"  {name}: {row.record.note}" for name, row in zip(names, self.rows) if row.record.note]
        here = self.environment
        told.append(f"{self.device}: {here.runtime} {here.runtime_version}, {here.threads} thread(s), {here.cpu}")
        return "\n".join([*told, *notes])


def measure(
    files: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    device: str = "local-ort",
    memory: bool = True,
    config: MeasureConfig | None = None,
    progress: Progress | None = None,
) -> SideBySide:
    """Latency, peak memory and size of ONNX files on a device; every further file is judged against the first.

    All files share rounds, so that they share the machine's weather; the verdict is the never-slower gate's.

    Args:
        files: paths of ONNX files, or names to paths.
        device: a folder in `hardware_profiles/`, or a path to a folder with a `device.yaml`.
        memory: whether to measure peak memory, too (in processes of its own).
        config: the measuring protocol; it names the device itself, and `device` is then not read.
        progress: shows bars.

    Returns:
        `.rows` with `.record`, `.memory`, `.size` and `.gate`; prints as a table.

    Raises:
        CheckpointError: a file is not there.
        JobError: no files, or one twice.
        DeviceMissing: the device cannot be reached, or does not read a file.
    """
    paths = _named(files)
    config = device_config(device, config)
    matching_device(config)
    models = {name: path.read_bytes() for name, path in paths.items()}
    records = protocol.measure(models, replace(config, together=len(models)), progress=progress)
    first = next(iter(models))
    rows = [
        FileRow(
            name=name,
            sha256=file_hash(paths[name]),
            record=records[name],
            memory=peak_memory(model, config, progress=progress) if memory else None,
            size=Counted(len(model) / 1e6, "MB"),
            gate=gated("measure", models[first], model, config, progress) if name != first else None,
        )
        for name, model in models.items()
    ]
    return SideBySide(tuple(rows), config.device, records[first].environment)


def _short(names: Sequence[str]) -> list[str]:
    """Names without the folders that all have in common."""
    parts = [Path(name).parts for name in names]
    common = 0
    while (
        len({part[common] for part in parts if len(part) > common + 1})
        == 1
        == len({len(p) > common + 1 for p in parts})
    ):
        common += 1
    return [str(Path(*part[common:])) for part in parts]


def _named(files: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, Path]:
    if isinstance(files, (str, Path)):
        files = [files]
    pairs = list(files.items()) if isinstance(files, Mapping) else [(str(file), file) for file in files]
    if not pairs:
        raise JobError("at least one ONNX file", received="none", where="measure")
    named = {name: Path(path) for name, path in pairs}
    if len(named) < len(pairs):
        raise JobError("every file once", received="a name twice", where="measure")
    for name, path in named.items():
        if not path.is_file():
            raise CheckpointError("an ONNX file", received="no file", where=name)
    return named
