"""What both ends must agree on: distributions, draws, messages, topics, and the link between them."""
