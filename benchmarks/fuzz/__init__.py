"""Hostile messages against a live worker."""
