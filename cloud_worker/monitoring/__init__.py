"""What a worker shows of itself: counts, status, health, metrics."""
