"""Network and split in, metrics per task out; delta against a reference."""
