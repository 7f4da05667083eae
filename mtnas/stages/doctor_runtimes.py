"""What each installed runtime is, and what it really runs: versions, int8 kernels, the precision of float files."""

from __future__ import annotations

import importlib
from typing import Any

from mtnas.base.errors import UserError
from mtnas.base.optional import available
from mtnas.measure.runtimes.table import RUNTIMES

_TOTAL = 2  # convolutions of the probe


def runtimes() -> list[dict[str, Any]]:
    """One row a runtime: name, version, whether it can run here and why not, int8, precision of float files."""
    return [_row(name) for name in RUNTIMES]


def _row(name: str) -> dict[str, Any]:
    from mtnas.device.networks import network_class

    row: dict[str, Any] = {"name": name, "version": None, "runs": False, "why_not": "", "int8": "", "float32": ""}
    package = name.partition("-")[0]
    if not available(package):
        return {**row, "why_not": f"the package {package!r} is not installed"}
    lacks = getattr(network_class(name), "lacks", None)
    why_not = (lacks() if callable(lacks) else lacks) or ""
    version = str(importlib.import_module(package).__version__)
    row |= {"version": version, "runs": not why_not, "why_not": str(why_not)}
    probe = {"onnxruntime": _onnxruntime, "openvino": _openvino}.get(name)
    try:
        return {**row, **(probe() if probe is not None and row["runs"] else {})}
    except UserError as error:
        return {**row, "why_not": str(error), "runs": False}


def _onnxruntime() -> dict[str, str]:
    from mtnas.quantize.probe import onnxruntime_int8

    return {"int8": _told(onnxruntime_int8(False), onnxruntime_int8(True)), "float32": "float32"}


def _openvino() -> dict[str, str]:
    from mtnas.measure.anchor import anchor_model
    from mtnas.quantize.openvino_kernels import kernels
    from mtnas.quantize.probe import tiny_quantized

    integers = [
        sum(kernel.is_integer and kernel.kind == "Convolution" for kernel in kernels(model.SerializeToString())[1])
        for model in (tiny_quantized(False), tiny_quantized(True))
    ]
    pinned, left_alone = kernels(anchor_model())[0], kernels(anchor_model(), pinned=False)[0]
    trap = "" if left_alone == pinned else f"; left alone it would run {left_alone}"
    return {"int8": _told(*integers), "float32": f"pinned to {pinned}{trap}"}


def _told(unsigned: int, signed: int) -> str:
    """One sentence from the counts of integer convolutions in the two probes."""
    words = {_TOTAL: "integer kernels", 0: "float kernels: int8 gains nothing"}
    part = f"integer kernels for {{}} of {_TOTAL} convolutions"
    unsigned_text, signed_text = (words.get(count, part.format(count)) for count in (unsigned, signed))
    if unsigned_text == signed_text:
        return f"{unsigned_text} (signed and unsigned activations)"
    return f"unsigned activations: {unsigned_text}; signed activations: {signed_text}"


def cuda() -> str:
    """The CUDA device's name, or why there is none."""
    if not available("torch"):
        return "torch is not installed"
    from importlib import metadata

    if metadata.version("torch").endswith("+cpu"):
        return "none (this torch is built for the CPU)"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
