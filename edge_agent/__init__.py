"""The agent that runs on the device: it drafts, decides what to uplink, and owns the sequence."""
