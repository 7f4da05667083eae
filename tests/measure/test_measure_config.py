"""The protocol's settings as a value: the same after JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from mtnas.measure.config import MeasureConfig


def test_settings_come_back_from_json_as_they_were() -> None:
    for config in (MeasureConfig(), MeasureConfig(affinity=(0, 1), threads=2)):
        again = MeasureConfig(**json.loads(json.dumps(asdict(config))))
        assert again == config
        assert hash(again) == hash(config)
