"""What a runner's own words say that a machine lacks, and what to do: install a library, a driver, a compiler."""

from __future__ import annotations

import re

#: packages that come with an extra of ours
_EXTRAS = ("openvino", "tensorrt")
_MODULE = re.compile(r"No module named '?([\w.]+)'?")
_GPU = (
    "install NVIDIA's driver until `nvidia-smi` shows the GPU (for torch also a build with CUDA), or choose a device "
    "that computes on the CPU"
)
#: words of the runner -> (what is wrong, what to do)
_LACKING: tuple[tuple[str, str, str], ...] = (
    (
        r"TensorRT [\d.]+ or later is needed",
        "TensorRT is too old",
        'install a later one: pip install "mtnas[tensorrt]"',
    ),
    (
        r"no libcudart was found",
        "CUDA's runtime is missing",
        "install NVIDIA's driver and CUDA's runtime library; the CUDA toolkit or a CUDA build of torch brings it along",
    ),
    (
        r"no NVIDIA GPU is seen|sees no CUDA device|no CUDA-capable device|CUDA driver version is insufficient",
        "no NVIDIA GPU is seen",
        _GPU,
    ),
    (r"needs a C\+\+ compiler", "a C++ compiler is missing", "install g++, or name a compiler in CXX"),
)


def missing_package(text: str) -> str:
    """The package that could not be imported; empty when that was not it."""
    found = _MODULE.search(text)
    return found.group(1).partition(".")[0] if found else ""


def install_words(package: str) -> str:
    """How to install a runtime's package beside this one."""
    return f'pip install "mtnas[{package}]"' if package in _EXTRAS else f"pip install {package}"


def what_lacks(text: str) -> tuple[str, str] | None:
    """(what is wrong, what to do) when a machine lacks something beside a Python package; else None."""
    for pattern, wrong, cure in _LACKING:
        if re.search(pattern, text):
            return wrong, cure
    return None
