"""What a worker holds of one session, and how it verifies drafts. Pure."""
