"""Several conversations over one draft model: which cache, whose turn, whose processor time. Pure."""
