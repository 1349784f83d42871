"""The totals of an agent, and its metrics for Prometheus."""
