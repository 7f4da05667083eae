"""The data sets: name -> function `(DataConfig, Progress) -> Dataset`. Knows no torch."""

from __future__ import annotations

DATASETS: dict[str, str] = {
    "scenes": "mtnas.data.scenes:open_scenes",
    "nyuv2": "mtnas.data.nyuv2:open_nyuv2",
}
