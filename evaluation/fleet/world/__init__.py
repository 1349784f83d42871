"""What a fleet consists of, in virtual time: arrivals, devices, broker and workers."""
