"""Targets of each data set by name, so that a job can be checked without reading an image. Knows no torch.

`folder` is not here: its targets are what its `folder.yaml` says.
"""

from __future__ import annotations

_NYUD = ("segmentation", "depth", "normals", "edges")
_CITY = ("segmentation", "disparity", "edges")

TARGETS: dict[str, tuple[str, ...]] = {
    "scenes": ("segmentation", "depth", "normals", "edges", "presence", "room"),
    "nyuv2": ("segmentation", "depth", "normals", "edges", "presence"),
    "cifar100-mtl": (
        "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
        "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
        "large_man_made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores",
        "medium_mammals", "non_insect_invertebrates", "people", "reptiles", "small_mammals", "trees", "vehicles_1",
        "vehicles_2",
    ),
    "camvid": ("segmentation", "edges", "presence"),
    "multimnist": ("left", "right"),
    "multifashion": ("left", "right"),
    "pets3": ("breed", "species", "trimap", "body", "head"),
    "nyuv2-mtan": _NYUD,
    "nyud-mt": _NYUD,
    "nyud-atrc": _NYUD,
    "pascal-mt": ("segmentation", "human_parts", "saliency", "normals", "edges"),
    "cityscapes-mtan": _CITY,
    "cityscapes-official": _CITY,
    "celeba40": (
        "has_5_o_clock_shadow", "arched_eyebrows", "attractive", "bags_under_eyes", "bald", "bangs", "big_lips",
        "big_nose", "black_hair", "blond_hair", "blurry", "brown_hair", "bushy_eyebrows", "chubby", "double_chin",
        "eyeglasses", "goatee", "gray_hair", "heavy_makeup", "high_cheekbones", "male", "mouth_slightly_open",
        "mustache", "narrow_eyes", "no_beard", "oval_face", "pale_skin", "pointy_nose", "receding_hairline",
        "rosy_cheeks", "sideburns", "smiling", "straight_hair", "wavy_hair", "wearing_earrings", "wearing_hat",
        "wearing_lipstick", "wearing_necklace", "wearing_necktie", "young",
    ),
}  # fmt: skip
