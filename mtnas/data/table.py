"""The data sets: name -> function `(DataConfig, Progress) -> Dataset`, and the targets of each. Knows no torch."""

from __future__ import annotations

DATASETS: dict[str, str] = {
    "scenes": "mtnas.data.scenes:open_scenes",
    "nyuv2": "mtnas.data.nyuv2:open_nyuv2",
    "cifar100-mtl": "mtnas.data.cifar100_mtl:open_cifar100_mtl",
    "camvid": "mtnas.data.camvid:open_camvid",
    "multimnist": "mtnas.data.two_digits:open_multimnist",
    "multifashion": "mtnas.data.two_digits:open_multifashion",
    "pets3": "mtnas.data.pets3:open_pets3",
    "nyuv2-mtan": "mtnas.data.nyuv2_mtan:open_nyuv2_mtan",
    "nyud-mt": "mtnas.data.nyud:open_nyud_mt",
    "nyud-atrc": "mtnas.data.nyud:open_nyud_atrc",
    "pascal-mt": "mtnas.data.pascal_mt:open_pascal_mt",
    "cityscapes-mtan": "mtnas.data.cityscapes_mtan:open_cityscapes_mtan",
    "cityscapes-official": "mtnas.data.cityscapes_official:open_cityscapes_official",
    "celeba40": "mtnas.data.celeba40:open_celeba40",
    "folder": "mtnas.data.folder:open_folder",
}

_NYUD = ("segmentation", "depth", "normals", "edges")
_CITY = ("segmentation", "disparity", "edges")

#: So that a job can be checked without reading an image. `folder` is not here: its `folder.yaml` names its targets.
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
