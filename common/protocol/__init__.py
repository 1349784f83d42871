"""The protocol between device and worker: messages, their encoding, topics and checksums. Pure."""
