"""Send hostile messages to a live worker."""
