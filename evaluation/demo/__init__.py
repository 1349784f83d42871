"""The demo, `make demo`: held-out smart-home commands under every scheme."""
