"""Global channel pruning through the model's channel groups, steps judged by measured latency."""
