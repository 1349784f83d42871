"""The loop of a generation: the session joined with the draft model and the link."""
