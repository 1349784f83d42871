"""Shared by the benchmarks: emulated links, scripted models, the processor time and memory of processes."""
