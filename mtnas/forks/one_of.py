"""`OneOf`: a place of a network where one of several modules runs.

A plain torch module. `make_elastic` finds it by its type; with `operators` in the rules of the space, which option
runs is a choice of every arch (an operator choice, as in ProxylessNAS, Cai et al., ICLR 2019, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from mtnas.base.errors import ModelError
from mtnas.forks.together import added, check_branches


class OneOf(nn.Module):
    """Runs one of its options; all of them take the same tensors and give one tensor of the same shape.

    In an elastic model the option with the most multiply-adds is the default, whatever was named here: it is part of
    the largest network.

    Args:
        options: at least one module by name; the name has no dot.
        default: the option that runs; the last one when not given.
    """

    def __init__(self, options: Mapping[str, nn.Module], default: str | None = None) -> None:
        super().__init__()
        check_branches("OneOf", list(options.values()))
        self.options = nn.ModuleDict()
        for name, option in options.items():
            if not isinstance(name, str) or not name or "." in name or hasattr(self.options, name):
                raise ModelError(
                    "option names without a dot, that no method of a dict has",
                    received=repr(name),
                    where="OneOf",
                    cure='such as OneOf({"conv3": conv3, "conv5": conv5})',
                )
            self.options[name] = option
        if default is not None and default not in self.options:
            raise ModelError(f"one of {list(self.options)}", received=repr(default), where="OneOf: default")
        self.default = default or list(self.options)[-1]

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.options[self.default](*inputs)
        return output

    # --- for those who choose: `SumOf` answers the same questions ---------------------------------------------------

    def parts(self) -> dict[str, nn.Module]:
        """Option -> its module."""
        return dict(self.options.items())

    def way(self, option: str) -> Callable[..., Tensor]:
        """What to call instead of `forward` to take an option."""
        return self.options[option]

    def everything(self, *inputs: Tensor) -> Tensor:
        """The sum of all options, for those who must see each of them at work; raises `ModelError` on odd shapes."""
        total: Tensor = added(self.parts(), inputs)
        return total

    def keep(self, option: str) -> None:
        """Drop all options but one; its parameters keep their names."""
        for other in [other for other in self.options if other != option]:
            del self.options[other]
        self.default = option
