"""Search strategies, one file each, all behind `ask` and `tell`."""
