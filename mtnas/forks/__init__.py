"""Modules that hold several ways on, for any network: one of several operators, the first few of several branches."""
