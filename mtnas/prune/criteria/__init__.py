"""Pruning criteria: one function per file, one finite score per unit, larger = keep."""
