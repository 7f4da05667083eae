"""Int8 by post-training quantization, one dialect per runtime, checked node by node on the optimised graph."""
