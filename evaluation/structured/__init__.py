"""What the schema of the home costs and saves: the same commands with and without it."""
