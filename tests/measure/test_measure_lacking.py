"""Jobs that end for want of a library, a driver or a GPU say what to install; nothing else is blamed on that."""

from __future__ import annotations

import pytest

from mtnas.base.errors import DeviceMissing, PackageMissing
from mtnas.base.optional import available
from mtnas.measure.anchor import anchor_model
from mtnas.measure.config import MeasureConfig
from mtnas.measure.protocol import measure
from mtnas.measure.reach.local import job_failure
from mtnas.measure.reach.ssh_errors import job_failure as remote_failure

WORDS = {
    "no TensorRT": ("ModuleNotFoundError: No module named 'tensorrt'", 'pip install "mtnas[tensorrt]"'),
    "no torch": ("ModuleNotFoundError: No module named 'torch.cuda'", "pip install torch"),
    "old TensorRT": ("RuntimeError: TensorRT 10.3 or later is needed, and this is 8.6.1", "install a later one"),
    "no CUDA": ("RuntimeError: no libcudart was found; install CUDA's runtime (x)", "NVIDIA's driver and CUDA's"),
    "no GPU": ("RuntimeError: no NVIDIA GPU is seen", "nvidia-smi"),
    "no GPU for torch": ("RuntimeError: torch sees no CUDA device (torch 2.13.0+cpu)", "a build with CUDA"),
    "no compiler": ("RuntimeError: torch.compile on a CPU needs a C++ compiler, and none was found", "install g++"),
}


@pytest.mark.parametrize("case", WORDS)
def test_what_is_lacking_is_named_with_its_cure(case: str) -> None:
    text, cure = WORDS[case]
    error = job_failure(text)
    assert isinstance(error, DeviceMissing)
    assert cure in error.cure and text in str(error)
    assert "is the file an ONNX network" not in error.cure


@pytest.mark.parametrize("case", ["no GPU", "no CUDA"])
def test_a_remote_machine_is_told_apart_from_this_one(case: str) -> None:
    text, cure = WORDS[case]
    error = remote_failure(text, "board", "python3")
    assert cure in error.cure and error.cure.startswith("on the device")


def test_other_failures_keep_the_usual_cure() -> None:
    assert "is the file an ONNX network" in job_failure("InvalidProtobuf: cannot parse").cure


@pytest.mark.parametrize("runtime", ["tensorrt", "torch-cuda"])
def test_a_real_job_without_its_gpu(runtime: str) -> None:
    from mtnas.device.networks import network_class

    installed = available(runtime.partition("-")[0])
    if installed and not network_class(runtime).lacks():
        pytest.skip("this machine has what the runtime needs")
    device = {"tensorrt": "cuda-tensorrt", "torch-cuda": "cuda-torch"}[runtime]
    config = MeasureConfig(device=device, runtime=runtime if runtime == "tensorrt" else "torch-cuda-graph")
    with pytest.raises((DeviceMissing, PackageMissing), match="install"):
        measure({"anchor": anchor_model()}, config)
