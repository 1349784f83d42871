"""Results as pages, with intervals, and long jobs that can be resumed."""
