"""Latency and memory of networks on a device: protocol, records, predictor, profile, gate, certificate."""
