"""The owner of the sequence: one generation as a state machine. Pure."""
