"""Which token is drafted, what would be sent with it, and whether it must be verified. Pure."""
