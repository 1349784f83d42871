"""Benchmarks: each measures what it compares side by side in one run, and prints medians and ratios."""

from common.process.telemetry import decline_telemetry

decline_telemetry()
