"""TensorRT engines from an ONNX file, with one code path for 10.x and 11.x.

The network is strongly typed: precision follows the tensors of the file and its explicit Q/DQ pairs. The flags for
weak typing and the calibrators are gone in 11.0, so nothing here touches them. An engine belongs to one TensorRT
version and one GPU; both are part of its cache key. Engines are built, never run, by this file: every result says
`executed: false` and is shown as "not executed".
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from mtnas.base.errors import DeviceMissing, ModelError, VerificationFailed
from mtnas.base.files import content_hash, file_hash, read_json, write_bytes, write_json
from mtnas.base.optional import require
from mtnas.base.progress import Progress, Silent
from mtnas.export.config import TensorRTConfig
from mtnas.export.engine import SCHEMA, EngineResult, read_layers

_MB = 1 << 20
_MINIMUM_VERSION = (10, 3)


def build_engine(
    onnx_path: Path, out: Path, config: TensorRTConfig | None = None, *, progress: Progress | None = None
) -> EngineResult:
    """Build an engine from an ONNX file, or find the one built from the same file, version, GPU and settings.

    Writes `<name>-<key>.engine`, its `.json`, its `.layers.json`, and the timing cache into `out`.

    Raises:
        PackageMissing: TensorRT is not installed.
        ModelError: the file is quantized in another dialect, or TensorRT cannot read it.
        VerificationFailed: the engine's inputs and outputs are not the file's.
    """
    config = config or TensorRTConfig()
    trt = require("tensorrt", extra="tensorrt", why="building engines")
    _check_version(trt)
    check_dialect(onnx.load_model(str(onnx_path)), where=str(onnx_path))
    source = file_hash(onnx_path)
    gpu = gpu_name()
    key = content_hash({"onnx": source, "tensorrt": trt.__version__, "gpu": gpu, "config": asdict(config)})
    stem = out / f"{onnx_path.stem}-{key[:12]}"
    known = _known(stem, key)
    if known is not None:
        return known
    with (progress or Silent()).task("build engine", 1) as bar:
        started = time.monotonic()
        data, layers_json = _Build(trt, config).run(onnx_path, out)
        bar.advance()
    layers, tensors = read_layers(layers_json)
    _check_tensors(onnx_path, tensors)
    engine = stem.with_suffix(".engine")
    write_bytes(engine, data)
    write_json(stem.with_suffix(".layers.json"), json.loads(layers_json))
    result = EngineResult(
        file=engine.name,
        sha256=file_hash(engine),
        key=key,
        onnx_sha256=source,
        tensorrt=trt.__version__,
        gpu=gpu,
        layers=layers,
        tensors=tensors,
        seconds=time.monotonic() - started,
    )
    write_json(stem.with_suffix(".json"), result.to_json())
    return result


def check_dialect(model: onnx.ModelProto, where: str = "model") -> None:
    """Raise `ModelError` when Q/DQ pairs are not what TensorRT takes: signed 8-bit, zero point 0."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"} or len(node.input) < 3:
            continue
        zero = stored.get(node.input[2])
        if zero is None or (zero.data_type == onnx.TensorProto.INT8 and not onnx.numpy_helper.to_array(zero).any()):
            continue
        raise ModelError(
            "signed int8 with zero point 0, as TensorRT takes",
            received=f"{onnx.TensorProto.DataType.Name(zero.data_type)} with a zero point at {node.name}",
            where=where,
            cure="quantize with quantize.dialect: tensorrt",
        )


def gpu_name() -> str:
    """Name of the GPU engines would be built for; an engine runs on no other kind."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceMissing(
            "an NVIDIA GPU",
            received="none was found",
            where="TensorRT",
            cure="run the export on the device itself, or set export.tensorrt.enabled: false",
        ) from error
    return answer.stdout.splitlines()[0].strip()


def _known(stem: Path, key: str) -> EngineResult | None:
    """The engine of this key, when its file is whole."""
    record, engine = stem.with_suffix(".json"), stem.with_suffix(".engine")
    if not record.exists() or not engine.exists():
        return None
    result = EngineResult.from_json(read_json(record, schema=SCHEMA))
    if result.key != key or file_hash(engine) != result.sha256:
        return None
    return EngineResult(**{**vars(result), "seconds": 0.0, "reused": True})


def _check_version(trt: ModuleType) -> None:
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < _MINIMUM_VERSION:
        raise DeviceMissing(
            f"TensorRT {'.'.join(map(str, _MINIMUM_VERSION))} or later",
            received=trt.__version__,
            where="TensorRT",
            cure='pip install "mtnas[tensorrt]"',
        )


def _check_tensors(onnx_path: Path, tensors: tuple[str, ...]) -> None:
    graph = onnx.load_model(str(onnx_path), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    expected = {value.name for value in (*graph.input, *graph.output)} - stored
    if set(tensors) != expected:
        raise VerificationFailed(
            f"an engine with tensors {sorted(expected)}", received=str(sorted(tensors)), where=str(onnx_path)
        )


class _Build:
    """One build: objects of TensorRT must outlive each other, so they are held here."""

    def __init__(self, trt: ModuleType, config: TensorRTConfig) -> None:
        self.trt = trt
        self.config = config
        self.logger, self.messages = _collecting_logger(trt)
        self.builder = trt.Builder(self.logger)

    def run(self, onnx_path: Path, out: Path) -> tuple[bytes, str]:
        """The serialized engine, and the inspector's JSON about it."""
        network = self._network(onnx_path)
        settings = self._settings(network)
        cache_path = out / self.config.timing_cache if self.config.timing_cache else None
        self._load_timing_cache(settings, cache_path)
        data = self.builder.build_serialized_network(network, settings)
        if data is None:
            raise self._error("a network that TensorRT can build", onnx_path)
        if cache_path is not None:
            write_bytes(cache_path, bytes(settings.get_timing_cache().serialize()))
        return bytes(data), self._inspect(bytes(data), onnx_path)

    def _network(self, onnx_path: Path) -> Any:
        trt = self.trt
        # Required for strong typing on 10.x; accepted and without effect on 11.x, where nothing else exists.
        network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.parser = trt.OnnxParser(network, self.logger)
        if not self.parser.parse_from_file(str(onnx_path)):
            reasons = [self._parser_error(i) for i in range(self.parser.num_errors)]
            raise self._error("an ONNX file that TensorRT can read", onnx_path, reasons)
        return network

    def _parser_error(self, index: int) -> str:
        error = self.parser.get_error(index)
        return f"node {error.node()} {error.node_name()!r} ({error.node_operator()}): {error.desc()}"

    def _settings(self, network: Any) -> Any:
        trt, config = self.trt, self.config
        settings = self.builder.create_builder_config()
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_mb * _MB)
        settings.builder_optimization_level = config.optimization_level
        settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if config.version_compatible:
            settings.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if config.hardware_compatibility != "none":
            level = getattr(trt.HardwareCompatibilityLevel, config.hardware_compatibility.upper())
            settings.hardware_compatibility_level = level
        self._add_profile(network, settings)
        return settings

    def _add_profile(self, network: Any, settings: Any) -> None:
        """Ranges of the batch, where the file leaves it open; other open axes are refused."""
        image = network.get_input(0)
        shape = list(image.shape)
        if -1 not in shape:
            return
        if -1 in shape[1:]:
            raise ModelError(
                "only the batch may be dynamic",
                received=f"{image.name} {shape}",
                where="TensorRT",
                cure="export with fixed channels, height and width",
            )
        profile = self.builder.create_optimization_profile()
        smallest, best, largest = (tuple([size, *shape[1:]]) for size in self.config.batch)
        profile.set_shape(image.name, smallest, best, largest)
        if settings.add_optimization_profile(profile) < 0:
            raise self._error(f"a batch profile {self.config.batch}", None)

    def _load_timing_cache(self, settings: Any, path: Path | None) -> None:
        """Kernel timings of earlier builds; those of another version or GPU are left out and replaced."""
        if path is None:
            return
        stored = path.read_bytes() if path.exists() else b""
        if not settings.set_timing_cache(settings.create_timing_cache(stored), False):
            settings.set_timing_cache(settings.create_timing_cache(b""), False)

    def _inspect(self, data: bytes, onnx_path: Path) -> str:
        runtime = self.trt.Runtime(self.logger)
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._error("an engine that can be loaded where it was built", onnx_path)
        inspector = engine.create_engine_inspector()
        return inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)

    def _error(self, expected: str, onnx_path: Path | None, reasons: list[str] | None = None) -> ModelError:
        received = [*(reasons or ()), *self.messages][:5] or ["no reason was given"]
        return ModelError(
            expected,
            received="; ".join(received),
            where=str(onnx_path or "TensorRT"),
            cure="the ONNX file itself may be fine: check it with `mtnas verify`",
        )


def _collecting_logger(trt: ModuleType) -> tuple[Any, list[str]]:
    """A logger that keeps errors for our own message and says nothing."""
    messages: list[str] = []

    class Collect(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.append(msg)

    return Collect(), messages
