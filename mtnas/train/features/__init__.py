"""Distillation of features: the shared part of every sub-network follows the largest one's."""
