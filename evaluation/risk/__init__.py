"""Measured risk in operation: whether a steered threshold keeps it where a fixed one does not."""
