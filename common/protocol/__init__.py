"""What the two ends say to each other: messages, their bytes, topics and checks. Pure."""
