"""What runs on the target: a self-contained runner that needs numpy and the runtime, and nothing of this package."""
