"""Ways to reach a device; each runs one job of the device runner and returns its records."""
