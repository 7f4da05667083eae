"""Union-find over named atoms: which channels of which ports are one and the same channel of the network."""

from __future__ import annotations

from collections.abc import Hashable

Atom = tuple[Hashable, int]


class Partition:
    """Disjoint sets of atoms; an atom is created when it is first named."""

    def __init__(self) -> None:
        self._parent: dict[Atom, Atom] = {}

    def find(self, atom: Atom) -> Atom:
        """The representative of the atom's set."""
        parent = self._parent
        root = parent.setdefault(atom, atom)
        while parent[root] != root:
            parent[root] = parent[parent[root]]
            root = parent[root]
        parent[atom] = root
        return root

    def union(self, first: Atom, second: Atom) -> None:
        a, b = self.find(first), self.find(second)
        if a != b:
            self._parent[b] = a

    def sets(self) -> list[list[Atom]]:
        """All sets, each in the order in which its atoms were first named."""
        found: dict[Atom, list[Atom]] = {}
        for atom in list(self._parent):
            found.setdefault(self.find(atom), []).append(atom)
        return list(found.values())
