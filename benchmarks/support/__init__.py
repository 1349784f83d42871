"""What several benchmarks need: emulated links, scripted models, the times and memory of processes."""
