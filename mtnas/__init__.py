"""Hardware-aware architecture search and compression for multi-task networks."""

__version__ = "0.1.0"
