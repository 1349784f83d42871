"""What a worker knows of one device's sequence, and what it answers. Pure."""
