"""Experiments above both ends: the demo pair's recipe, the demo, measurements."""
