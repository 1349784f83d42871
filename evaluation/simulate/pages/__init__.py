"""The pages of the command: from points to sections and pictures."""
