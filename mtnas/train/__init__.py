"""Train: build a network, train it once so that every sub-network works, and fine-tune a cut one."""
