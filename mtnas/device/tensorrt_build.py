"""TensorRT engines built on the device that runs them, kept by what decides them; 10.3 to 11.x, strongly typed.

Precision is that of the file: its tensor types and its Q/DQ pairs. An engine belongs to one file, TensorRT version, GPU
and set of options; timings of kernels are kept beside the engines, so that hundreds of similar networks build faster
and choose alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from typing import Any, Mapping

LEAST_VERSION = (10, 3)
BUILD = {"optimization_level": 3, "workspace_mb": 1024, "typing": "strong", "free_batch": [1, 1, 16]}


def version_of(trt: Any) -> tuple[int, ...]:
    """(major, minor)."""
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


class Engines:
    """A folder of engines and one cache of timings.

    Args:
        trt: the module `tensorrt`.
        logger: the one logger of this process's networks, with a list `messages`.
        folder: where files are kept.
        gpu: name and compute capability.
    """

    def __init__(self, trt: Any, logger: Any, folder: str, gpu: str) -> None:
        self._trt, self._logger, self._folder, self._gpu = trt, logger, folder, gpu

    def of(self, model: bytes) -> bytes:
        """The serialized engine of a file, built now unless it is there, whole."""
        path = os.path.join(self._folder, self.key(model) + ".engine")
        known = _read_whole(path)
        if known is None:
            known = self._build(model)
            _write(path, known)
            _write(path + ".sha256", hashlib.sha256(known).hexdigest().encode())
        return known

    def key(self, model: bytes) -> str:
        """Hash of everything that decides an engine."""
        parts = [hashlib.sha256(model).hexdigest(), self._trt.__version__, self._gpu, json.dumps(BUILD, sort_keys=True)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _build(self, model: bytes) -> bytes:
        trt = self._trt
        del self._logger.messages[:]
        builder = trt.Builder(self._logger)
        # needed for strong typing on 10.x; accepted and without effect on 11.x, where nothing else exists
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            raise ValueError("; ".join(_words(error) for error in errors) or self._reason("the file was not read"))
        settings = self._settings(builder, network)
        cache = self._timing_cache()
        stored = _read(cache)
        if not settings.set_timing_cache(settings.create_timing_cache(stored or b""), False):
            settings.set_timing_cache(settings.create_timing_cache(b""), False)
        engine = builder.build_serialized_network(network, settings)
        if engine is None:
            raise ValueError(self._reason("TensorRT built no engine"))
        _write(cache, bytes(settings.get_timing_cache().serialize()))
        return bytes(engine)

    def _settings(self, builder: Any, network: Any) -> Any:
        trt = self._trt
        settings = builder.create_builder_config()
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, BUILD["workspace_mb"] << 20)  # type: ignore[operator]
        settings.builder_optimization_level = BUILD["optimization_level"]
        settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        profile, free = builder.create_optimization_profile(), False
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            sizes = list(tensor.shape)
            if -1 in sizes[1:]:
                raise ValueError("only the batch may be free, and " + tensor.name + " has " + str(sizes))
            if -1 in sizes:
                free = True
                profile.set_shape(tensor.name, *(tuple([n, *sizes[1:]]) for n in BUILD["free_batch"]))  # type: ignore[attr-defined]
        if free and settings.add_optimization_profile(profile) < 0:
            raise ValueError(self._reason("TensorRT refuses a free batch"))
        return settings

    def _timing_cache(self) -> str:
        name = hashlib.sha256((self._trt.__version__ + "\n" + self._gpu).encode()).hexdigest()[:16]
        return os.path.join(self._folder, "timing-" + name + ".cache")

    def _reason(self, otherwise: str) -> str:
        return "; ".join(self._logger.messages[:3]) or otherwise


def own_folder() -> str:
    """A folder for engines that only this user can write: an engine is code to its reader."""
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    folder = os.path.join(tempfile.gettempdir(), "mtnas-engines-" + user)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and os.stat(folder).st_uid != os.getuid():
        raise PermissionError(folder + " belongs to somebody else; remove it or set TMPDIR")
    return folder


def layer_facts(inspected: str) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """Kind and written tensors of each layer, from the inspector's JSON; 10.x and 11.x name them alike."""
    layers = [item for item in json.loads(inspected).get("Layers", ()) if isinstance(item, dict)]
    kinds = {item.get("Name", ""): item.get("LayerType", "") for item in layers}
    outputs = {item.get("Name", ""): [o["Name"] for o in item.get("Outputs", ()) if "Name" in o] for item in layers}
    return kinds, outputs


def _words(error: Any) -> str:
    return str(error.node_operator()) + " " + repr(error.node_name()) + ": " + str(error.desc())


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None


def _read_whole(path: str) -> Any:
    """The engine, or None when it is missing or not what was written."""
    data, stated = _read(path), _read(path + ".sha256")
    whole = data is not None and stated is not None and hashlib.sha256(data).hexdigest().encode() == stated
    return data if whole else None


def _write(path: str, data: bytes) -> None:
    """In one step: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    os.replace(name, path)
