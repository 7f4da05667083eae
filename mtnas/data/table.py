"""The data sets: name -> function `(DataConfig, Progress) -> Dataset`. Knows no torch."""

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
