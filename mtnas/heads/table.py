"""The heads, by name. A new one is a file, a row here, and passes `test_head_contract.py`."""

from __future__ import annotations

HEADS: dict[str, str] = {
    "fpn": "mtnas.heads.fpn:FPN",
    "deeplab": "mtnas.heads.deeplab:DeepLab",
    "pooled": "mtnas.heads.pooled:Pooled",
}

#: Heads whose output has the image's resolution; the others give one vector per image.
DENSE_HEADS: frozenset[str] = frozenset({"fpn", "deeplab"})

#: Decoders of all dense tasks together.
JOINT_HEADS: dict[str, str] = {
    "affinity": "mtnas.heads.affinity:Affinity",
    "task_expert": "mtnas.heads.task_expert:TaskExpert",
}

#: What a task's vectors may do to the encoder's maps before its head reads them.
NONE, ADD, MULTIPLY = "none", "add", "multiply"
TASK_VECTORS: tuple[str, ...] = (NONE, ADD, MULTIPLY)
