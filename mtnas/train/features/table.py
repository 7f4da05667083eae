"""The forms of feature distillation. A new one is a file, a row here, and passes `test_feature_contract.py`."""

from __future__ import annotations

NONE = "none"
#: the form that did best in `distill_scenes`, where the network has features that it can compare
AUTO, BEST = "auto", "attention"

FEATURE_FORMS: dict[str, str] = {
    "slice": "mtnas.train.features.slice:Slice",
    "attention": "mtnas.train.features.attention:Attention",
    "gram": "mtnas.train.features.gram:Gram",
    "project": "mtnas.train.features.project:Project",
}
