"""A fleet in virtual time: from ten to a million devices on a pool of workers behind a broker.

Laws: what is counted (passes, uplinks, rejections, bytes) comes from texts that the real pair wrote, what
takes time from measured distributions, and which of both a run used stands beside its results.
"""
