"""Cutting a network on the device: the host's file put together again from the full network's arrays.

A *base* holds arrays; a *recipe* says how one file is made of literal bytes and of slices of those arrays. The result
is byte for byte the file that the host would have sent, which its hash proves; numpy is all this needs.

    base:    one line of JSON {name: [dtype, shape, offset]}, padded with spaces, then the arrays' bytes
    recipe:  one line of JSON {"sha256", "parts": [number of literal bytes, or [name, {axis: [start, stop] or
             {"at": [...]}}]]}, then the literal bytes, compressed with zlib

`mtnas.graph.shipping` writes both.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any, Mapping

import numpy as np


class Base:
    """The arrays of the full network.

    Args:
        data: the file's bytes.
    """

    def __init__(self, data: bytes) -> None:
        end = data.index(b"\n") + 1
        self._table = json.loads(data[:end].decode("utf-8"))
        self._data, self._start = data, end

    @staticmethod
    def read(path: str) -> Base:
        with open(path, "rb") as stream:
            return Base(stream.read())

    def array(self, name: str) -> np.ndarray:
        dtype, shape, offset = self._table[name]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._data, np.dtype(dtype), count, self._start + offset).reshape(shape)


def cut_bytes(base: Base, recipe: bytes) -> bytes:
    """The file a recipe describes; raises `ValueError` when its hash differs."""
    end = recipe.index(b"\n") + 1
    plan = json.loads(recipe[:end].decode("utf-8"))
    literal, place, found = zlib.decompress(recipe[end:]), 0, []
    for part in plan["parts"]:
        if isinstance(part, int):
            found.append(literal[place : place + part])
            place += part
        else:
            found.append(sliced(base.array(part[0]), part[1]).tobytes())
    made = b"".join(found)
    if hashlib.sha256(made).hexdigest() != plan["sha256"]:
        raise ValueError("expected the network with hash " + plan["sha256"] + ", received another one from its recipe")
    return made


def sliced(array: np.ndarray, keep: Mapping[str, Any]) -> np.ndarray:
    """Keep some positions on some axes."""
    for axis, positions in keep.items():
        at = np.arange(*positions) if isinstance(positions, list) else np.asarray(positions["at"], dtype=np.int64)
        array = np.take(array, at, axis=int(axis))
    return array
