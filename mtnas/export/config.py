"""Settings of the export stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
OPSET_CHOICES = (20, 21)


@dataclass(frozen=True, kw_only=True)
class TensorRTConfig:
    """How a TensorRT engine is built; precision follows the tensors of the ONNX file."""

    enabled: bool = False
    """Build an engine; needs the extra `tensorrt` and an NVIDIA GPU."""
    workspace_mb: int = 1024
    """Memory a kernel may use while it runs."""
    optimization_level: int = 3
    """0 (fast build) to 5 (fast engine)."""
    timing_cache: str = "timing.cache"
    """File of kernel timings beside the engine, read and extended; empty for none."""
    batch: tuple[int, int, int] = (1, 1, 8)
    """Smallest, best and largest batch of a file whose batch is dynamic."""
    version_compatible: bool = False
    """May run with later TensorRT versions, possibly slower."""
    hardware_compatibility: str = "none"
    """Which other GPUs may run it: none, ampere_plus or same_compute_capability."""

    def __post_init__(self) -> None:
        where = "export.tensorrt"
        if self.workspace_mb < 1:
            raise JobError("at least 1 MB", received=str(self.workspace_mb), where=f"{where}.workspace_mb")
        if not 0 <= self.optimization_level <= 5:
            raise JobError(
                "a level from 0 to 5", received=str(self.optimization_level), where=f"{where}.optimization_level"
            )
        if len(self.batch) != 3 or not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise JobError("three rising batch sizes", received=str(self.batch), where=f"{where}.batch")
        known = dict.fromkeys(HARDWARE_COMPATIBILITY)
        check_name(self.hardware_compatibility, known, "compatibility", f"{where}.hardware_compatibility")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which files are written."""

    opset: int = 20
    """ONNX operator set; 20 and 21 are what device runtimes of the last years read."""
    dynamic_batch: bool = False
    """Leave the batch size open."""
    simplify: bool = True
    """Simplify the graph with onnxslim, where no output changes and the file gets no slower."""
    openvino: bool = False
    """Also write an OpenVINO model; needs the extra `openvino`."""
    tensorrt: TensorRTConfig = field(default_factory=TensorRTConfig)
    """The TensorRT engine."""

    def __post_init__(self) -> None:
        if self.opset not in OPSET_CHOICES:
            raise JobError("opset 20 or 21", received=str(self.opset), where="export.opset")
