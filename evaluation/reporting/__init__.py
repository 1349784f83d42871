"""Pages of results, confidence intervals, and long jobs that can be resumed."""
