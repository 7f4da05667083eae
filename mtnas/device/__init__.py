"""What runs on the target: a self-contained runner that needs Python 3.8, numpy and a runtime, and no other room."""
