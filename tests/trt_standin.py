"""Behaviour enough to act out a build: the stand-in reads the ONNX file and writes bytes that are no engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from trt_surface import Unwritten, made, surface

#: operators the stand-in's parser refuses, to act out a parser error
UNSUPPORTED = {"HammingWindow", "Unique"}


Acts = dict[str, Any]


def standin(version: str, more: Callable[[ModuleType, Acts], Acts] | None = None) -> ModuleType:
    """A `tensorrt` module for one version: 10.13, 10.16 or 11.4; `more` acts out more, given what is acted already."""
    acts: Acts = {}
    module = surface(version, acts)
    acts.update(_building(module), **_parsing(module), **_inspecting(module))
    if more is not None:
        acts.update(more(module, acts))
    return module


def _error(logger: Any, module: ModuleType, text: str) -> None:
    logger.log(module.ILogger.ERROR, text)


def _building(trt: ModuleType) -> dict[str, Any]:
    def start(self: Any, logger: Any) -> None:
        if "values" not in vars(logger):
            raise TypeError("trt.ILogger.__init__() must be called when overriding __init__")
        self.values["logger"] = logger

    def network(self: Any, flags: int = 0) -> Any:
        names = [flag.name for flag in trt.NetworkDefinitionCreationFlag if flags >> int(flag) & 1]
        if flags >> len(trt.NetworkDefinitionCreationFlag):
            raise ValueError(f"unknown creation flags {flags}")
        return made(trt.INetworkDefinition, creation=names, inputs=[], outputs=[], nodes=[])

    def config(self: Any) -> Any:
        verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        return made(trt.IBuilderConfig, profiles=[], flags_set=set(), pools={}, profiling_verbosity=verbosity)

    def build(self: Any, network: Any, config: Any) -> Any:
        given, logger = network.values, self.values["logger"]
        strong = "STRONGLY_TYPED" in given["creation"] or trt.__version__.startswith("11")
        if given["quantized"] and not strong:
            _error(logger, trt, "Q/DQ layers need an int8 flag in a weakly typed network")
            return None
        if (
            any(-1 in tensor.values["shape"].values["sizes"] for tensor in given["inputs"])
            and not config.values["profiles"]
        ):
            _error(logger, trt, "Network has dynamic or shape inputs, but no optimization profile has been defined.")
            return None
        detailed = config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED
        plan = {"version": trt.__version__, "tensors": given["names"], "nodes": given["nodes"], "detailed": detailed}
        plan["settings"] = _recorded(config)
        cache = config.values.get("cache")
        if cache is not None:
            cache.values["entries"].update(name for name, _ in given["nodes"])
        return _memory(trt, json.dumps(plan, sort_keys=True).encode())

    def set_shape(self: Any, input: str, min: Any, opt: Any, max: Any) -> None:
        if not all(a <= b <= c for a, b, c in zip(min, opt, max)):
            raise ValueError("min <= opt <= max must hold")
        self.values["shapes"][input] = (tuple(min), tuple(opt), tuple(max))

    def add_profile(self: Any, profile: Any) -> int:
        self.values["profiles"].append(profile.values["shapes"])
        return len(self.values["profiles"]) - 1

    def create_cache(self: Any, serialized_timing_cache: bytes) -> Any:
        stored = json.loads(bytes(serialized_timing_cache) or b"{}")
        return made(trt.ITimingCache, version=stored.get("version"), entries=set(stored.get("entries", ())))

    def set_cache(self: Any, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.values["version"] not in (None, trt.__version__) and not ignore_mismatch:
            return False
        self.values["cache"] = cache
        return True

    def serialize(self: Any) -> Any:
        return _memory(
            trt, json.dumps({"version": trt.__version__, "entries": sorted(self.values["entries"])}).encode()
        )

    return {
        "Builder.__init__": start,
        "Builder.create_network": network,
        "Builder.create_builder_config": config,
        "Builder.build_serialized_network": build,
        "Builder.create_optimization_profile": lambda self: made(trt.IOptimizationProfile, shapes={}),
        "IOptimizationProfile.set_shape": set_shape,
        "IBuilderConfig.add_optimization_profile": add_profile,
        "IBuilderConfig.set_flag": lambda self, flag: self.values["flags_set"].add(flag.name),
        "IBuilderConfig.set_memory_pool_limit": lambda self, pool, pool_size: self.values["pools"].update(
            {pool.name: pool_size}
        ),
        "IBuilderConfig.create_timing_cache": create_cache,
        "IBuilderConfig.set_timing_cache": set_cache,
        "IBuilderConfig.get_timing_cache": lambda self: self.values["cache"],
        "ITimingCache.serialize": serialize,
    }


def _recorded(config: Any) -> dict[str, Any]:
    """What was set on a config, readable in the stand-in's plan."""
    return {
        "flags": sorted(config.values["flags_set"]),
        "pools": config.values["pools"],
        "profiles": config.values["profiles"],
        "level": config.values.get("builder_optimization_level"),
        "compatibility": getattr(config.values.get("hardware_compatibility_level"), "name", None),
    }


def _memory(trt: ModuleType, data: bytes) -> Any:
    """Host memory gives its bytes through the buffer protocol; Python 3.11 can act that out for `bytes()` only."""
    kind = trt.IHostMemory
    kind.__bytes__ = lambda self: self.values["data"]
    return made(kind, data=data, nbytes=len(data))


def _parsing(trt: ModuleType) -> dict[str, Any]:
    def start(self: Any, network: Any, logger: Any) -> None:
        self.values.update(network=network, logger=logger, errors=[])

    def fail(self: Any, index: int, node: onnx.NodeProto, text: str) -> None:
        answers = {"node": index, "node_name": node.name, "node_operator": node.op_type, "desc": text}
        self.values["errors"].append(made(trt.ParserError, **{f"answer_{k}": v for k, v in answers.items()}))

    def parse(self: Any, model: str) -> bool:
        proto = onnx.load_model(model)
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        for index, node in enumerate(proto.graph.node):
            if node.op_type in UNSUPPORTED:
                fail(self, index, node, f"No importer registered for op: {node.op_type}")
            zero = stored.get(node.input[2]) if len(node.input) > 2 else None
            pair = node.op_type in {"QuantizeLinear", "DequantizeLinear"}
            if pair and zero is not None and (zero.dtype != np.int8 or zero.any()):
                fail(self, index, node, "zero point must be zero")
        values = self.values["network"].values
        values["inputs"] = [_tensor(trt, value) for value in proto.graph.input if value.name not in stored]
        values["outputs"] = [_tensor(trt, value) for value in proto.graph.output]
        values["names"] = [tensor.values["name"] for tensor in (*values["inputs"], *values["outputs"])]
        values["nodes"] = [(node.name, node.op_type) for node in proto.graph.node]
        values["quantized"] = any(op == "QuantizeLinear" for _, op in values["nodes"])
        values["sha256"] = hashlib.sha256(Path(model).read_bytes()).hexdigest()
        return not self.values["errors"]

    def answer(name: str) -> Any:
        return lambda self: self.values[f"answer_{name}"]

    return {
        "OnnxParser.__init__": start,
        "OnnxParser.parse_from_file": parse,
        "OnnxParser.num_errors": lambda self: len(self.values["errors"]),
        "OnnxParser.get_error": lambda self, index: self.values["errors"][index],
        **{f"ParserError.{name}": answer(name) for name in ("node", "node_name", "node_operator", "desc")},
        "INetworkDefinition.get_input": lambda self, index: self.values["inputs"][index],
        "INetworkDefinition.num_inputs": lambda self: len(self.values["inputs"]),
    }


def _tensor(trt: ModuleType, value: onnx.ValueInfoProto) -> Any:
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
    trt.Dims.__iter__ = lambda self: iter(self.values["sizes"])
    return made(trt.ITensor, name=value.name, shape=made(trt.Dims, sizes=dims))


def _inspecting(trt: ModuleType) -> dict[str, Any]:
    def deserialize(self: Any, serialized_engine: bytes) -> Any:
        plan = json.loads(serialized_engine)
        if plan["version"] != trt.__version__:
            _error(self.values["logger"], trt, "The engine plan file was made by another version")
            return None
        return made(trt.ICudaEngine, plan=plan)

    def information(self: Any, format: Any) -> str:
        if format is not trt.LayerInformationFormat.JSON:
            raise Unwritten("one-line layer information")
        plan = self.values["plan"]
        layers: list[Any] = [name for name, _ in plan["nodes"]]
        new = trt.__version__.startswith("11")
        if plan["detailed"]:
            kind = {"Format": "Row-major", "Datatype": "Int8"} if new else {"Format/Datatype": "Int8 NC/32HW32"}
            layers = [{"Name": n, "LayerType": op, "Outputs": [{"Name": n, **kind}]} for n, op in plan["nodes"]]
        return json.dumps({"Layers": layers, "I/O Tensors" if new else "Bindings": plan["tensors"]})

    return {
        "Runtime.__init__": lambda self, logger: self.values.update(logger=logger),
        "Runtime.deserialize_cuda_engine": deserialize,
        "ICudaEngine.create_engine_inspector": lambda self: made(trt.EngineInspector, plan=self.values["plan"]),
        "EngineInspector.get_engine_information": information,
    }
