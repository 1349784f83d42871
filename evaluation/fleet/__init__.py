"""A fleet in virtual time: from ten to a million devices on a pool of workers behind a broker.

Law: counts (passes, uplinks, rejections, bytes) come from texts that the real pair wrote, and times from
measured distributions; results state which of them were used.
"""
