"""Replaces workers of one release by those of another while devices of both generate."""
