"""Classes of Cityscapes. Label ids 0..33 are those of the official files."""

from __future__ import annotations

NAMES_19 = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
#: official categories in official order
NAMES_7 = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
#: the files of MTAN do not name these two
NAMES_2 = ("class 0", "class 1")
#: label id of each of the 19 classes
IDS_19 = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
#: category of each of the 19 classes; labels outside the 19 are ignored in both
CATEGORY_19 = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
NAMES = {19: NAMES_19, 7: NAMES_7, 2: NAMES_2}
