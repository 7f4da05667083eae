"""The balancing methods, by name. A new one is a file, a row here, and passes `tests/train/test_train_parts.py`."""

from __future__ import annotations

BALANCES: dict[str, str] = {
    "fixed": "mtnas.train.balance.fixed:Fixed",
    "uncertainty": "mtnas.train.balance.uncertainty:Uncertainty",
}
