"""Which sessions a worker holds, who is served next, and what follows a failed pass. Pure."""
