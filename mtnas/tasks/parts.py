"""Human parts: segmentation whose images without a person are all ignored (255), so they weigh nothing.

mIoU is the mean over all classes of the ground truth with the background among them, as the field computes it.
"""

from __future__ import annotations

from typing import ClassVar

from mtnas.tasks.segmentation import Segmentation


class Parts(Segmentation):
    type: ClassVar[str] = "parts"
