"""Settings of post-training quantization."""

from __future__ import annotations

from dataclasses import dataclass

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.quantize.dialects import CALIBRATORS, DIALECTS

SEVEN_BIT = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How the chosen network becomes int8."""

    enabled: bool = True
    """Make an int8 file at all."""
    dialect: str = "onnxruntime-x64"
    """Where Q/DQ pairs go and which integers they use; a row of the dialect table."""
    images: int = 128
    """Images of the calibrate split that set the ranges."""
    batch_size: int = 16
    """Images per calibration step."""
    calibrator: str = "minmax"
    """How a range is chosen from the values seen: minmax, entropy or percentile."""
    percentile: float = 99.99
    """Share of values kept by the percentile calibrator."""
    float_heads: tuple[str, ...] = ()
    """Tasks whose output layers stay in float."""
    float_branches: tuple[str, ...] = ()
    """Tasks whose whole decoder stays in float."""
    float_nodes: tuple[str, ...] = ()
    """Further nodes that stay in float: name patterns of the ONNX file such as `*stem*`."""
    float_upsampling: bool = True
    """Interpolate the last up-sampling of each head in float; 256 levels show as steps in depth and normals."""
    seven_bit_weights: str = "auto"
    """Halve the weights' range against saturation: yes, no, or auto (x64 without VNNI)."""
    max_drop_percent: float = 2.0
    """A task without a floor may lose this much against its float self before its head goes back to float."""

    def __post_init__(self) -> None:
        check_name(self.dialect, DIALECTS, "quantization dialect", "quantize.dialect")
        check_name(self.calibrator, CALIBRATORS, "calibrator", "quantize.calibrator")
        check_name(self.seven_bit_weights, dict.fromkeys(SEVEN_BIT), "choice", "quantize.seven_bit_weights")
        for key in ("images", "batch_size"):
            if getattr(self, key) < 1:
                raise JobError("at least 1", received=str(getattr(self, key)), where=f"quantize.{key}")
        if not 50.0 < self.percentile <= 100.0:
            raise JobError("a percentile in (50, 100]", received=str(self.percentile), where="quantize.percentile")
        if self.max_drop_percent < 0:
            raise JobError("0 or more", received=str(self.max_drop_percent), where="quantize.max_drop_percent")
