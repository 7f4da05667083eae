"""The tasks: name -> class, and the weight each loss has when the job gives none. Knows no torch."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "segmentation": "mtnas.tasks.segmentation:Segmentation",
    "depth": "mtnas.tasks.depth:Depth",
    "normals": "mtnas.tasks.normals:Normals",
    "edges": "mtnas.tasks.edges:Edges",
    "classification": "mtnas.tasks.classification:Classification",
    "presence": "mtnas.tasks.presence:Presence",
    "parts": "mtnas.tasks.parts:Parts",
    "saliency": "mtnas.tasks.saliency:Saliency",
    "disparity": "mtnas.tasks.disparity:Disparity",
    "attribute": "mtnas.tasks.attribute:Attribute",
    "box": "mtnas.tasks.box:Box",
}

#: The usual weights of four-task training (segmentation 1, depth 1, normals 10 with the mean over channels) and of
#: PASCAL (parts 2, saliency 5). Edges usually get 50 there because that loss divides by all pixels; ours divides by the
#: balance weights, so 2 is alike.
DEFAULT_WEIGHTS: dict[str, float] = {
    "segmentation": 1.0,
    "depth": 1.0,
    "normals": 10.0,
    "edges": 2.0,
    "classification": 1.0,
    "presence": 1.0,
    "parts": 2.0,
    "saliency": 5.0,
    "disparity": 1.0,
    "attribute": 1.0,
    "box": 1.0,
}
