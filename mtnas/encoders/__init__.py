"""Encoders: plain modules `image (B,3,H,W) -> feature maps`, publishing their levels as (channels, stride)."""
