"""Hardware-aware architecture search and compression for multi-task networks.

    elastic = mtnas.make_elastic(model, example_inputs)     # a copy; the model stays as it is
    mtnas.train(elastic, tasks, data)
    profile = mtnas.profile(elastic, device="local-ort")
    front = mtnas.search(elastic, tasks, data, profile, budget={"latency_ms": "50%"}, floors={"depth": "-3%"})
    small = elastic.extract(front.pick(preference={"segmentation": 2}))
    other = elastic.configure(budget={"latency_ms": "30%"}, preference={"depth": 3})    # another trade-off, no training
    pruned, result = mtnas.prune(small, example_inputs, score=score_fn, budget={"latency_ms": "80%"}, profile=profile)

`train`, `measure`, `search`, `prune`, `quantize`, `export` and `verify` are functions and packages of the same name at
once: `mtnas.search(...)` calls `mtnas.api.searching.search`, `mtnas.search.front` is a module. Importing `mtnas` loads
nothing else; every name is resolved on first use.
"""

import importlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time the tables below
    from mtnas.api.certifying import certify
    from mtnas.api.configuring import configure
    from mtnas.api.controlling import Control, control
    from mtnas.api.data import make_tasks, open_data
    from mtnas.api.elastic import make_elastic, only_tasks
    from mtnas.api.exporting import export
    from mtnas.api.profiling import DeviceProfile, load_profile, profile
    from mtnas.api.pruning import prune
    from mtnas.api.quantizing import quantize
    from mtnas.api.references import references
    from mtnas.api.searching import search
    from mtnas.api.side_by_side import measure
    from mtnas.api.training import finetune, train
    from mtnas.api.verifying import verify
    from mtnas.api.where import costs, width_steps
    from mtnas.forks.one_of import OneOf
    from mtnas.forks.sum_of import SumOf

__version__ = "0.1.0"

#: functions that share their name with a package
_VERBS = {
    "train": "mtnas.api.training:train",
    "measure": "mtnas.api.side_by_side:measure",
    "search": "mtnas.api.searching:search",
    "prune": "mtnas.api.pruning:prune",
    "quantize": "mtnas.api.quantizing:quantize",
    "export": "mtnas.api.exporting:export",
    "verify": "mtnas.api.verifying:verify",
}
_NAMES = {
    "certify": "mtnas.api.certifying:certify",
    "configure": "mtnas.api.configuring:configure",
    "Control": "mtnas.api.controlling:Control",
    "control": "mtnas.api.controlling:control",
    "costs": "mtnas.api.where:costs",
    "width_steps": "mtnas.api.where:width_steps",
    "make_elastic": "mtnas.api.elastic:make_elastic",
    "finetune": "mtnas.api.training:finetune",
    "profile": "mtnas.api.profiling:profile",
    "load_profile": "mtnas.api.profiling:load_profile",
    "DeviceProfile": "mtnas.api.profiling:DeviceProfile",
    "open_data": "mtnas.api.data:open_data",
    "make_tasks": "mtnas.api.data:make_tasks",
    "only_tasks": "mtnas.api.elastic:only_tasks",
    "references": "mtnas.api.references:references",
    "OneOf": "mtnas.forks.one_of:OneOf",
    "SumOf": "mtnas.forks.sum_of:SumOf",
}

__all__ = [
    "Control",
    "DeviceProfile",
    "OneOf",
    "SumOf",
    "__version__",
    "certify",
    "configure",
    "control",
    "costs",
    "export",
    "finetune",
    "load_profile",
    "make_elastic",
    "make_tasks",
    "measure",
    "only_tasks",
    "open_data",
    "profile",
    "prune",
    "quantize",
    "references",
    "search",
    "train",
    "verify",
    "width_steps",
]


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Verb(types.ModuleType):
    """A package that can be called like the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _resolve(_VERBS[self.__name__.rpartition(".")[2]])(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_resolve(_VERBS[self.__name__.rpartition(".")[2]]))


class _Face(types.ModuleType):
    """This package: sub-packages that are verbs become callable when they are imported, whoever imports them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and type(value) is types.ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES:
            return _resolve(_NAMES[name])
        if name in _VERBS:
            return importlib.import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Face
