"""Which sessions there are, whose turn it is, and what forms the next batch. Pure."""
