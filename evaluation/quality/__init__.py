"""The quality of each scheme's text: exact match on held-out commands, agreement with the target's text."""
