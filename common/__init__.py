"""What both ends share: distributions, random draws, messages, topics, the link and process parts."""
