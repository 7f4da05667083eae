"""The encoders, by name. A new one is a file, a row here, and passes `tests/contracts/test_encoder_contract.py`."""

from __future__ import annotations

ENCODERS: dict[str, str] = {
    "resnet": "mtnas.encoders.resnet:ResNet",
    "mobilenet": "mtnas.encoders.mobilenet:MobileNet",
}
