"""`edge-agent doctor`: examine the machine, the model, the broker and the pool, and suggest changes."""
