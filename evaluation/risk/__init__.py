"""Measured risk in operation: does a steered threshold keep it where a fixed one does not?"""
