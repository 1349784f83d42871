"""A broker and workers on this machine, for tests, the demo and benchmarks."""
