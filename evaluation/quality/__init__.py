"""What each scheme's text is worth: exact match on held-out commands, agreement with the target's text."""
