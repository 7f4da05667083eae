"""Heads: plain modules that turn an encoder's feature maps into one task's raw output."""
